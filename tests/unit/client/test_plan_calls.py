"""What is sent to have a plan, and what the answers become."""

from __future__ import annotations

import json
from typing import Any

import httpx
import msgspec
import pytest
from tests.unit.client.documents import ACCURACY, GPU_PLAN, HOST, MACHINES, MIB, PLAN, USE_CASES
from tests.unit.client.driver import Driver, script

import lilliput_client as sdk


def sent(drive: Driver, answer: Any, method: str, *args: Any, **options: Any) -> tuple[httpx.Request, Any]:
    seen: list[httpx.Request] = []
    result = drive(script(httpx.Response(200, json=answer), seen=seen), method, *args, **options)
    return seen[0], result


def test_a_plan_is_asked_for_with_nothing_but_the_model(drive: Driver) -> None:
    request, plan = sent(drive, PLAN, "plan", "llama3.1:8b", context=None, all=False)
    assert (request.method, request.url.path) == ("GET", "/lilliput/plan")
    assert dict(request.url.params) == {"model": "llama3.1:8b"}
    assert plan.chosen == "Q4_K_M"


def test_a_plan_is_asked_for_with_all_that_is_wanted(drive: Driver) -> None:
    wanted = {"context": "max", "use_case": "coding", "slots": 2, "kv": "q8_0", "machine": "m2", "budget": "6GiB"}
    request, _ = sent(drive, PLAN, "plan", "m", **wanted, all=True, gpu_layers=0)
    assert dict(request.url.params) == {
        "model": "m",
        "context": "max",
        "use_case": "coding",
        "slots": "2",
        "kv": "q8_0",
        "machine": "m2",
        "budget": "6GiB",
        "all": "true",
        "gpu_layers": "0",
    }


def test_a_machine_that_is_described_goes_in_a_body_with_the_rest(drive: Driver) -> None:
    table = {"name": "mine", "memory": "32 GiB", "cores": 8}
    request, _ = sent(drive, PLAN, "plan", "m", machine=table, context=4096, all=True)
    assert (request.method, request.url.query) == ("POST", b"")
    assert json.loads(request.content) == {"model": "m", "machine": table, "context": 4096, "all": True}


def test_a_plan_has_every_field_of_the_document(drive: Driver) -> None:
    _, plan = sent(drive, GPU_PLAN, "plan", "m")
    assert msgspec.json.decode(msgspec.json.encode(plan)) == GPU_PLAN
    unpublished, taken = plan.variants
    assert plan.taken is taken
    assert taken.need["CUDA0"].total_bytes == 960 * MIB
    assert taken.setting == sdk.Setting(4096, 2, "q8_0", gpu_layers=9, cpu_expert_layers=3)
    assert taken.tokens_per_s == sdk.Speed(3.1, 3.6, 4.2)
    assert taken.quality is not None
    assert taken.quality.measured
    assert unpublished.near_misses == ("fits at 2048", "fits with q8_0 KV: KLD +0.001")
    assert not unpublished.exists
    assert plan.budget["CUDA0"].promised_bytes == 128 * MIB
    assert plan.machine.accelerators[0].nvidia.temperature_c == 41


def test_what_a_later_daemon_adds_or_leaves_out_does_no_harm(drive: Driver) -> None:
    answer = {"version": 2, "model": "m", "chosen": None, "news": [1], "variants": [{"name": "Q2_K", "fits": False}]}
    _, plan = sent(drive, answer, "plan", "m")
    assert plan.taken is None
    assert plan.variants[0].setting is None
    assert plan.machine == sdk.Hardware()


def test_the_accuracy_of_plans_is_told(drive: Driver) -> None:
    request, (row,) = sent(drive, ACCURACY, "accuracy")
    assert request.url.path == "/lilliput/plan/accuracy"
    assert (row.architecture, row.backend, row.build, row.loads) == ("llama", "CPU", "b9000", 3)
    assert row.measured.total_bytes - row.planned.total_bytes == 3 * MIB
    assert row.errors_bytes["ram"]["kv"] == sdk.Deviation(0, -2 * MIB)


def test_machines_and_use_cases_are_listed(drive: Driver) -> None:
    request, (machine,) = sent(drive, MACHINES, "machines")
    assert request.url.path == "/lilliput/machines"
    assert (machine.name, machine.accelerators[0].name) == ("pc-24gb", "CUDA0")
    request, cases = sent(drive, USE_CASES, "use_cases")
    assert request.url.path == "/lilliput/use_cases"
    assert [(case.name, case.floor) for case in cases] == [("general", "Q4_K_M"), ("coding", "Q4_K_M")]


def test_hardware_has_every_field_of_the_document(drive: Driver) -> None:
    request, hardware = sent(drive, HOST, "hardware")
    assert request.url.path == "/lilliput/hardware"
    assert msgspec.json.decode(msgspec.json.encode(hardware)) == HOST


@pytest.mark.parametrize(
    "answer", [[], {"variants": []}, {"model": "m", "budget": 3}, {"model": "m", "variants": [{}]}]
)
def test_an_answer_that_is_no_plan_is_a_protocol_error(drive: Driver, answer: Any) -> None:
    with pytest.raises(sdk.ProtocolError):
        sent(drive, answer, "plan", "m")
