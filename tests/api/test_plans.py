"""The routes of plans: what is asked reaches the service, and what cannot be asked is refused with its name."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from tests.api.fakes import Fakes

from lilliput.llama import Rope
from lilliput.services import PlanRequest
from lilliput.units import GIB

MACHINE = {"name": "mine", "memory": "32 GiB", "cores": 8}


async def test_a_plan_is_asked_for_by_query(http: httpx.AsyncClient, fakes: Fakes) -> None:
    query: dict[str, Any] = {
        "model": "llama3.1",
        "context": 4096,
        "use_case": "coding",
        "slots": 4,
        "kv": "q8_0",
        "machine": "macbook-m2-16gb",
        "budget": "24GiB",
        "all": "true",
        "gpu_layers": 12,
        "mmproj": "mmproj-F16.gguf",
        "lora": "/models/adapter.gguf",
        "rope_scaling": "yarn",
        "rope_freq_base": 1e6,
        "rope_freq_scale": 0.5,
        "yarn_orig_ctx": 2048,
    }
    answer = await http.get("/lilliput/plan", params=query)
    assert answer.status_code == 200, answer.text
    assert fakes.plans.asked == [
        PlanRequest(
            "llama3.1",
            4096,
            "coding",
            4,
            "q8_0",
            12,
            "macbook-m2-16gb",
            24 * GIB,
            every_type=True,
            mmproj="mmproj-F16.gguf",
            lora="/models/adapter.gguf",
            rope=Rope("yarn", 1e6, 0.5, 2048),
        )
    ]
    said = answer.json()
    assert (said["version"], said["model"], said["context_tokens"], said["slots"]) == (1, "llama3.1", 4096, 4)


async def test_a_plan_is_asked_for_by_a_body(http: httpx.AsyncClient, fakes: Fakes) -> None:
    body = {
        "model": "llama3.1",
        "context": "max",
        "use_case": "chat",
        "slots": 2,
        "kv": "q4_0",
        "machine": MACHINE,
        "budget": 1000,
        "all": True,
        "gpu_layers": 0,
    }
    answer = await http.post("/lilliput/plan", json=body)
    assert answer.status_code == 200, answer.text
    assert fakes.plans.asked == [PlanRequest("llama3.1", "max", "chat", 2, "q4_0", 0, MACHINE, 1000, every_type=True)]
    assert answer.json()["context_tokens"] == 131072


async def test_what_is_not_said_is_left_to_the_plan(http: httpx.AsyncClient, fakes: Fakes) -> None:
    await http.get("/lilliput/plan", params={"model": "m"})
    await http.post("/lilliput/plan", json={"model": "m"})
    await http.get("/lilliput/plan", params={"model": "m", "context": " MAX "})
    assert fakes.plans.asked == [PlanRequest("m"), PlanRequest("m"), PlanRequest("m", "max")]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({}, "model"),
        ({"model": ""}, "model"),
        ({"model": "m", "context": "big"}, "context"),
        ({"model": "m", "context": "0"}, "context"),
        ({"model": "m", "context": "-1"}, "context"),
        ({"model": "m", "context": "1" * 30}, "context"),
        ({"model": "m", "slots": "0"}, "slots"),
        ({"model": "m", "kv": "q3"}, "kv"),
        ({"model": "m", "budget": "much"}, "budget"),
        ({"model": "m", "budget": "0"}, "budget"),
        ({"model": "m", "all": "perhaps"}, "all"),
        ({"model": "m", "gpu_layers": "-1"}, "gpu_layers"),
    ],
)
async def test_a_query_that_cannot_be_is_refused_with_its_name(
    http: httpx.AsyncClient, fakes: Fakes, query: dict[str, str], param: str
) -> None:
    refused = await http.get("/lilliput/plan", params=query)
    assert refused.status_code == 400, refused.text
    assert (refused.json()["error"]["code"], refused.json()["error"]["param"]) == ("invalid-request", param)
    assert fakes.plans.asked == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "model"),
        ({"model": "m", "context": "big"}, "context"),
        ({"model": "m", "context": 0}, "context"),
        ({"model": "m", "context": 10**30}, "context"),
        ({"model": "m", "budget": "much"}, "budget"),
        ({"model": "m", "budget": 0}, "budget"),
        ({"model": "m", "budget": -5}, "budget"),
        ({"model": "m", "kv": "q3"}, "kv"),
        ({"model": "m", "machine": 5}, "machine"),
        ({"model": "m", "slots": 0}, "slots"),
        ({"model": "m", "gpu_layers": -1}, "gpu_layers"),
    ],
)
async def test_a_body_that_cannot_be_is_refused_with_its_name(
    http: httpx.AsyncClient, fakes: Fakes, body: dict[str, Any], param: str
) -> None:
    refused = await http.post("/lilliput/plan", json=body)
    assert refused.status_code == 400, refused.text
    assert (refused.json()["error"]["code"], refused.json()["error"]["param"]) == ("invalid-request", param)
    assert fakes.plans.asked == []


async def test_how_right_plans_were_is_told(http: httpx.AsyncClient, fakes: Fakes) -> None:
    assert (await http.get("/lilliput/plan/accuracy")).json() == {"accuracy": []}
    fakes.rows = [{"architecture": "llama", "loads": 3}]
    assert (await http.get("/lilliput/plan/accuracy")).json() == {"accuracy": [{"architecture": "llama", "loads": 3}]}


async def test_machines_and_use_cases_are_listed(http: httpx.AsyncClient) -> None:
    machines = (await http.get("/lilliput/machines")).json()
    assert machines == {"machines": [{"name": "macbook-m2-16gb", "title": "A title"}]}
    cases = (await http.get("/lilliput/use_cases")).json()["use_cases"]
    assert [case["name"] for case in cases] == ["general", "coding"]


async def test_a_misspelt_wish_is_not_passed_over(http: httpx.AsyncClient, fakes: Fakes) -> None:
    for answer in (
        await http.get("/lilliput/plan", params={"model": "m", "context_tokens": "512"}),
        await http.post("/lilliput/plan", json={"model": "m", "context_tokens": 512}),
        await http.post("/lilliput/plan", json={"model": "m", "budget": True}),
    ):
        assert answer.status_code == 400
    answer = await http.get("/lilliput/plan", params={"model": "m", "context_tokens": "512"})
    assert answer.json()["error"]["hint"] == "did you mean context?"
    assert fakes.plans.asked == []
