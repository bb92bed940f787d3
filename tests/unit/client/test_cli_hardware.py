"""What ``lilliput hardware`` shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.client.conftest import Call
from tests.unit.client.documents import CARD, GIB, HOST, MACHINE
from tests.unit.client.stub import Stub

from lilliput_client.cli import watching

ROUTE = "GET /lilliput/hardware"


def shown(stub: Stub, call: Call, document: dict[str, Any]) -> list[str]:
    stub.routes[ROUTE] = 200, document
    return [" ".join(line.split()) for line in call("hardware").stdout.splitlines()]


def test_a_machine_is_shown_fact_by_fact(stub: Stub, call: Call) -> None:
    assert shown(stub, call, HOST) == [
        "system Linux 6.1.0",
        "processor Intel Xeon",
        "architecture x86_64",
        "cores 2 physical, 4 logical, 2 usable",
        "core kinds none told apart",
        "vector instructions avx2 fma",
        "matrix instructions amx_tile",
        "NUMA nodes 1",
        "memory total 16.0 GiB",
        "memory available 9.0 GiB",
        "memory of the host 64.0 GiB",
        "memory limited by /lilliput.slice",
        "swap 0 B, 0 B free",
        "memory bandwidth 20.3 GB/s",
        "accelerators none",
        "models may use of ram 8.0 GiB (50% of 16.0 GiB)",
        "fingerprint 0f3a9c1b2d4e5f60",
    ]
    assert json.loads(call("hardware", "--json").stdout) == HOST


def test_accelerators_are_shown_with_what_their_driver_says(stub: Stub, call: Call) -> None:
    lines = shown(stub, call, {**MACHINE, "accelerators": [CARD], "described": "pc"})
    assert "described as pc" in lines
    for line in (
        "CUDA0 NVIDIA GeForce RTX 3090 (CUDA gpu)",
        "CUDA0 memory 24.0 GiB, 20.0 GiB free",
        "CUDA0 bandwidth 936 GB/s",
        "CUDA0 half precision 71 TFLOPS",
        "CUDA0 device 0000:c1:00.0",
        "CUDA0 in use 4.0 GiB, of other processes 1.0 GiB",
        "CUDA0 utilisation 3%",
        "CUDA0 temperature 41 °C",
        "CUDA0 slowed by power cap",
    ):
        assert line in lines


def test_a_mac_is_shown_with_what_its_memory_is_for(stub: Stub, call: Call) -> None:
    cpu = {"physical_cores": 8, "performance_cores": 4, "efficiency_cores": 4}
    memory = {"total_bytes": 16 * GIB, "host_total_bytes": 16 * GIB, "gpu_working_set_bytes": 10 * GIB}
    gpu = {"name": "MTL0", "total_bytes": 10 * GIB}
    lines = shown(stub, call, {"cpu": cpu, "memory": memory, "accelerators": [gpu], "unified": True})
    assert "core kinds 4 performance, 4 efficiency" in lines
    assert "memory the GPU may hold 10.0 GiB" in lines
    assert "MTL0 memory 10.0 GiB, unknown free, shared with the system" in lines
    assert "memory limited by nothing but the machine" in lines


def test_what_is_not_known_is_said_to_be_unknown(stub: Stub, call: Call) -> None:
    card = {"name": "CUDA0", "nvidia": {}}
    text = "\n".join(shown(stub, call, {"cpu": {}, "memory": {}, "accelerators": [card]}))
    assert "-\n" not in text
    for line in (
        "system unknown",
        "processor unknown",
        "core kinds unknown",
        "vector instructions unknown",
        "matrix instructions unknown",
        "memory total unknown",
        "memory bandwidth unknown",
        "CUDA0 unknown",
        "CUDA0 in use unknown, of other processes unknown",
        "CUDA0 utilisation unknown",
        "CUDA0 slowed by unknown",
    ):
        assert line in text


def test_a_bandwidth_that_only_the_caches_reach_is_said_to_be_theirs(stub: Stub, call: Call) -> None:
    lines = shown(stub, call, {**HOST, "bandwidth_cache_bound": True})
    assert "memory bandwidth 20.3 GB/s of the caches: memory may be slower" in lines


@pytest.fixture
def thrice(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Ctrl-C comes while waiting for the fourth look; how often was waited."""
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(watching, "time", type("Clock", (), {"sleep": staticmethod(sleep)}))
    return lambda: len(waits)


def test_a_watched_machine_is_shown_until_it_is_enough(stub: Stub, call: Call, thrice: Callable[[], int]) -> None:
    stub.routes[ROUTE] = 200, MACHINE
    result = call("hardware", "--watch")
    assert (result.exit_code, thrice()) == (0, 3)
    assert result.stdout.count("Intel Xeon") == 3


def test_a_watched_machine_is_told_to_programs_line_by_line(stub: Stub, call: Call, thrice: Callable[[], int]) -> None:
    stub.routes[ROUTE] = 200, HOST
    result = call("hardware", "--watch", "--json")
    assert result.exit_code == 0
    assert [json.loads(line) for line in result.stdout.splitlines()] == [HOST] * 3


def test_accelerators_that_could_not_be_listed_are_not_called_none(stub: Stub, call: Call) -> None:
    problem = "the accelerators of this machine could not be listed: no answer within 30 s"
    lines = shown(stub, call, {**HOST, "accelerators_problem": problem})
    assert f"accelerators {problem}" in lines
    assert "accelerators none" not in lines
