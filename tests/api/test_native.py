"""The native dialect, health, and what /docs says of all routes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest
from tests.api.fakes import JOB, MODEL, NESTED, Fakes

from lilliput.api import create_app
from lilliput.errors import EngineError
from lilliput.pool import OPEN_TERMS, Terms
from lilliput.services.job_records import JobError

JOB_JSON: dict[str, Any] = {
    "id": "job-1",
    "kind": "pull",
    "model": "llama3.1:8b",
    "state": "queued",
    "created_at": 1.0,
    "updated_at": 2.0,
    "phase": None,
    "message": None,
    "file": None,
    "digest": None,
    "completed_bytes": None,
    "total_bytes": None,
    "rate_bytes_s": None,
    "eta_s": None,
    "error": None,
    "result": {},
    "position": None,
}
MODEL_JSON = {
    "name": MODEL.name,
    "source": "hub",
    "repo": "HuggingFaceTB/SmolLM2",
    "revision": "c" * 40,
    "quantization": "Q4_1",
    "architecture": "llama",
    "context_length": 8192,
    "parameter_count": 134_515_008,
    "license": "apache-2.0",
    "size_bytes": 98_000_000,
    "digest": "ab" * 32,
    "installed_at": 1_767_225_600.5,
    "files": [{"path": str(MODEL.path), "size_bytes": 98_000_000, "sha256": "ab" * 32}],
}


async def test_a_pull_is_accepted_as_a_job(http: httpx.AsyncClient, fakes: Fakes) -> None:
    body = {"model": "llama3.1:8b", "variant": "Q4_K_M", "context": 4096, "use_case": "bulk", "force": True}
    answer = await http.post("/lilliput/pulls", json=body)
    assert (answer.status_code, answer.headers["location"]) == (202, "/lilliput/jobs/job-1")
    assert answer.json() == JOB_JSON
    terms = Terms(context_tokens=4096, use_case="bulk", forced=True)
    assert fakes.pulls.asked == [{"model": "llama3.1:8b", "variant": "Q4_K_M", "terms": terms}]
    assert (await http.post("/lilliput/pulls", json={"model": "m", "context": 0})).status_code == 400


async def test_jobs_are_listed_shown_and_cancelled(http: httpx.AsyncClient, fakes: Fakes) -> None:
    fakes.jobs.known["job-1"] = JOB
    assert (await http.get("/lilliput/jobs")).json() == {"jobs": [JOB_JSON]}
    assert (await http.get("/lilliput/jobs/job-1")).json() == JOB_JSON
    assert (await http.delete("/lilliput/jobs/job-1")).json() == {**JOB_JSON, "state": "cancelled"}
    for method, path in (("GET", ""), ("GET", "/events"), ("DELETE", "")):
        answer = await http.request(method, f"/lilliput/jobs/none{path}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "job-not-found")


async def test_a_job_is_followed_to_its_end(http: httpx.AsyncClient, fakes: Fakes) -> None:
    failed = replace(JOB, state="failed", error=JobError("disk-full", "no room", "make some"))
    fakes.jobs.known["job-1"] = JOB
    fakes.jobs.snapshots = [JOB, failed]
    answer = await http.get("/lilliput/jobs/job-1/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(event.removeprefix("data: ")) for event in answer.text.split("\n\n")[:-1]]
    assert events[0] == JOB_JSON
    assert events[1]["error"] == {"code": "disk-full", "message": "no room", "hint": "make some"}
    assert len(events) == 2


async def test_models_are_listed_shown_and_removed(http: httpx.AsyncClient, fakes: Fakes) -> None:
    assert (await http.get("/lilliput/models")).json()["models"][0] == MODEL_JSON
    shown = (await http.get("/lilliput/models/smollm2:135m")).json()
    assert shown == {**MODEL_JSON, "metadata": {"general.architecture": "llama", "llama.rope": 10000.0}}
    assert (await http.delete("/lilliput/models/org%2Fname:Q4_K_M")).json()["name"] == NESTED.name
    assert NESTED.name not in fakes.models.installed
    assert (await http.delete("/lilliput/models/org/name:Q4_K_M")).status_code == 404


async def test_engines_are_loaded_listed_and_unloaded(http: httpx.AsyncClient) -> None:
    engine = {"model": "org/m:Q4", "state": "ready", "asked": None}
    assert (await http.post("/lilliput/engines", json={"model": "org/m:Q4"})).json() == engine
    assert (await http.get("/lilliput/engines")).json() == {
        "engines": [engine],
        "memory": {
            "watched": True,
            "pressed": True,
            "because": "little is available",
            "available_bytes": 3,
            "steps": [
                {
                    "at": 1_767_225_655.5,
                    "kind": "evict",
                    "engine": "one",
                    "text": "the idle engine is ended",
                    "before_bytes": 7,
                    "after_bytes": 0,
                }
            ],
        },
    }
    assert (await http.delete("/lilliput/engines/org/m:Q4")).json() == {"model": "org/m:Q4", "unloaded": True}
    assert (await http.delete("/lilliput/engines/org/m:Q4")).status_code == 404


@pytest.mark.parametrize(
    ("body", "terms"),
    [
        ({"force": True}, Terms(forced=True)),
        ({"force": False, "kv": None}, None),
        ({"context": 4096, "use_case": "coding"}, Terms(context_tokens=4096, use_case="coding")),
        ({"slots": 2, "kv": "q8_0", "gpu_layers": 0}, Terms(slots=2, kv_type="q8_0", gpu_layers=0)),
    ],
)
async def test_pulls_and_loads_take_what_a_plan_takes(
    http: httpx.AsyncClient, fakes: Fakes, body: dict[str, Any], terms: Terms | None
) -> None:
    await http.post("/lilliput/engines", json={"model": "m", **body})
    assert fakes.engines.loaded["m"].asked == terms
    await http.post("/lilliput/pulls", json={"model": "m", **body})
    assert fakes.pulls.asked[-1]["terms"] == (terms or OPEN_TERMS)
    for route in ("engines", "pulls"):
        for wrong in ({"slots": 0}, {"gpu_layers": -1}, {"kv": 8}):
            assert (await http.post(f"/lilliput/{route}", json={"model": "m", **wrong})).status_code == 400


@pytest.mark.parametrize(
    ("value", "seconds"), [(None, None), (90, 90), (0, 0), (-1, -1), ("10m", 600), ("1h30m", 5400), ("-1", -1)]
)
async def test_an_engine_is_kept_as_long_as_it_is_asked_for(
    http: httpx.AsyncClient, fakes: Fakes, value: object, seconds: float | None
) -> None:
    await http.post("/lilliput/engines", json={"model": "m", "keep_alive": value})
    assert fakes.engines.kept_s == [seconds]


@pytest.mark.parametrize("value", [True, "soon", "", [], {}, "1h 30m"])
async def test_what_is_no_keep_alive_is_refused(http: httpx.AsyncClient, fakes: Fakes, value: object) -> None:
    refused = await http.post("/lilliput/engines", json={"model": "m", "keep_alive": value})
    assert (refused.status_code, fakes.engines.kept_s) == (400, [])
    assert "keep_alive" in refused.json()["error"]["message"]


async def test_an_engine_may_be_drained(http: httpx.AsyncClient, fakes: Fakes) -> None:
    for query in ("", "?drain=true"):
        await http.post("/lilliput/engines", json={"model": "m"})
        assert (await http.delete(f"/lilliput/engines/m{query}")).status_code == 200
    assert fakes.engines.drained == [False, True]


async def test_models_are_pinned_and_unpinned(http: httpx.AsyncClient, fakes: Fakes) -> None:
    assert (await http.put("/lilliput/pins/org/m:Q4")).json() == {"model": "org/m:Q4", "pinned": True}
    assert fakes.engines.pins == {"org/m:Q4"}
    assert (await http.delete("/lilliput/pins/org/m:Q4")).json() == {"model": "org/m:Q4", "pinned": False}
    assert fakes.engines.pins == set()


async def test_hardware(http: httpx.AsyncClient) -> None:
    assert (await http.get("/lilliput/hardware")).json() == {"system": "Linux"}


async def test_what_the_doctor_finds(http: httpx.AsyncClient) -> None:
    assert (await http.get("/lilliput/doctor")).json() == {
        "verdict": "unknown",
        "counts": {"ok": 0, "warning": 0, "problem": 0, "unknown": 1},
        "checks": [
            {
                "check": "swap",
                "title": "swap",
                "verdict": "unknown",
                "summary": "nobody tells",
                "evidence": {"busy": False},
                "remedy": None,
                "took_s": 0.5,
            }
        ],
        "checked_at": 7.0,
        "took_s": 1.0,
    }


async def test_health_and_the_root(http: httpx.AsyncClient, fakes: Fakes) -> None:
    assert (await http.get("/health/live")).json() == {"status": "live"}
    assert (await http.get("/health/ready")).json() == {"status": "ready"}
    fakes.is_ready = False
    starting = await http.get("/health/ready")
    assert (starting.status_code, starting.json()) == (503, {"status": "starting"})
    assert (await http.get("/")).text == "lilliput is running"
    assert (await http.head("/")).status_code == 200


async def test_docs_are_served(http: httpx.AsyncClient) -> None:
    assert "swagger" in (await http.get("/docs")).text
    assert (await http.get("/openapi.json")).json()["info"]["title"] == "lilliput"


def operations() -> list[tuple[str, dict[str, Any]]]:
    paths = create_app(Fakes().services()).openapi()["paths"]
    return [(f"{method.upper()} {path}", spec) for path, methods in paths.items() for method, spec in methods.items()]


@pytest.mark.parametrize(("route", "spec"), operations(), ids=[route for route, _ in operations()])
def test_every_route_is_described_with_examples(route: str, spec: dict[str, Any]) -> None:
    assert len(spec["summary"]) > 2
    assert len(spec["description"]) > 15
    assert "422" not in spec["responses"]
    for status, response in spec["responses"].items():
        assert response["description"]
        if route == "DELETE /api/delete" and status == "200":
            continue
        assert response["content"], status
        for content in response["content"].values():
            assert content.get("example") or content.get("examples"), status
    takes_names = "{" in route or "requestBody" in spec or "parameters" in spec
    assert not takes_names or any(status >= "400" for status in spec["responses"]), "its errors are not shown"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_the_text_routes_tell_what_the_door_and_a_failure_answer(path: str) -> None:
    responses = create_app(Fakes().services()).openapi()["paths"][path]["post"]["responses"]
    for status, codes in (
        ("403", {"foreign-host", "foreign-origin"}),
        ("413", {"body-too-large"}),
        ("500", {"internal-error"}),
    ):
        assert codes <= set(responses[status]["content"]["application/json"]["examples"])


def test_every_request_body_has_an_example_that_its_route_accepts() -> None:
    schemas = create_app(Fakes().services()).openapi()["components"]["schemas"]
    bodies = {name: schema for name, schema in schemas.items() if name.endswith("Body")}
    assert len(bodies) >= 6
    for name, schema in bodies.items():
        assert schema.get("example"), name
        assert set(schema.get("required", ())) <= set(schema["example"]), name


async def test_a_model_is_tuned(http: httpx.AsyncClient, fakes: Fakes) -> None:
    answer = await http.post("/lilliput/tune", json={"model": "org/m:Q4", "seconds": 5})
    assert fakes.engines.tune_s == 5
    told = answer.json()
    assert (told["model"], told["settings"]["flash_attention"], told["settings"]["threads"]) == (
        "org/m:Q4",
        False,
        None,
    )
    assert told["trials"][0]["tokens_per_s"] == [[64, 90.0]]
    assert (await http.post("/lilliput/tune", json={})).status_code == 400
    assert (await http.post("/lilliput/tune", json={"model": "missing", "stream": True})).status_code == 404
    assert (await http.post("/lilliput/tune", json={"model": "m", "seconds": 0})).status_code == 400


async def test_trials_are_streamed_before_what_came_of_them(http: httpx.AsyncClient, fakes: Fakes) -> None:
    body = {"model": "org/m:Q4", "stream": True}
    *told, end, _ = (await http.post("/lilliput/tune", json=body)).text.split("\n\n")
    trial, tuning = (json.loads(one.removeprefix("data: ")) for one in told)
    assert trial["trial"]["prompt_tokens_per_s"] == 300.0
    assert (tuning["tuning"]["model"], len(tuning["tuning"]["trials"])) == ("org/m:Q4", 1)
    assert end == "data: [DONE]"
    fakes.engines.tune_error = EngineError("org/m:Q4 could not be measured")
    *_, error, _ = (await http.post("/lilliput/tune", json=body)).text.split("\n\n")
    assert "could not be measured" in json.loads(error.removeprefix("data: "))["error"]["message"]


async def test_a_tuning_is_shown_and_chosen(http: httpx.AsyncClient, fakes: Fakes) -> None:
    path = "/lilliput/tunings/org/m:Q4"
    assert (await http.get(path)).json()["measured"]["flash_attention"] is False
    changes = {"threads": 4, "flash_attention": None}
    assert (await http.patch(path, json=changes)).json()["model"] == "org/m:Q4"
    assert (await http.delete(path)).status_code == 200
    assert fakes.engines.changes == [changes, None]


@pytest.mark.parametrize(
    "body", [{}, {"threads": 0}, {"threads": "4"}, {"width": 257}, {"ubatch_tokens": 16}, {"repack": 1}]
)
async def test_a_choice_that_no_load_can_have_is_refused(http: httpx.AsyncClient, body: dict[str, Any]) -> None:
    assert (await http.patch("/lilliput/tunings/m", json=body)).status_code == 400


async def test_metrics_are_text_that_prometheus_reads(http: httpx.AsyncClient) -> None:
    answer = await http.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.text == "lilliput_requests_total 1.0\n"
