"""What the doctor thinks of memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lilliput.hardware import CgroupMemory, Cpu, Memory, Pressure, Stalls
from lilliput.services.doctor.memory import judge_container, judge_pressure, judge_swap, judge_use
from lilliput.units import GIB, MIB

MEMORY = Memory(16 * GIB, 8 * GIB, 16 * GIB, swap_total_bytes=GIB, swap_free_bytes=GIB)
CPU = Cpu("x", "x86_64", physical_cores=8, logical_cores=16, usable_cores=16, simd=None)
QUIET = Pressure(100.0, MEMORY, swapped_in_bytes=0, swapped_out_bytes=0)


@pytest.mark.parametrize(
    ("available", "verdict"), [(8.0, "ok"), (3.3, "ok"), (3.1, "warning"), (0.9, "warning"), (0.5, "problem")]
)
def test_memory_in_use(available: float, verdict: str) -> None:
    found = judge_use(replace(MEMORY, available_bytes=int(available * GIB)), 2 * GIB)
    assert found.verdict == verdict
    assert (found.remedy is None) == (verdict == "ok")
    assert found.evidence["engines_bytes"] == 2 * GIB


def test_the_share_in_use_is_told() -> None:
    found = judge_use(MEMORY, 3 * GIB)
    assert found.summary == "50% of 16.0 GiB are in use, 8.0 GiB available; engines hold 3.0 GiB"


def stalls(some: float, full: float) -> Stalls:
    return Stalls(some, 0.0, 0.0, full, 0.0, 0.0)


@pytest.mark.parametrize(
    ("some", "full", "verdict"),
    [(0, 0, "ok"), (9.9, 9.9, "ok"), (10.1, 0, "warning"), (40.1, 0, "problem"), (20, 10.1, "problem")],
)
def test_stalls_for_memory(some: float, full: float, verdict: str) -> None:
    assert judge_pressure(replace(QUIET, system=stalls(some, full))).verdict == verdict
    found = judge_pressure(replace(QUIET, system=stalls(0, 0), group=stalls(some, full)))
    assert found.verdict == verdict
    assert found.evidence["some_avg10_percent"] == some


@pytest.mark.parametrize(
    ("level", "verdict"), [("normal", "ok"), ("warning", "warning"), ("critical", "problem"), (None, "unknown")]
)
def test_pressure_where_the_kernel_counts_no_stalls(level: Any, verdict: str) -> None:
    assert judge_pressure(replace(QUIET, level=level)).verdict == verdict


@pytest.mark.parametrize(
    ("swapped", "busy", "verdict", "said"),
    [
        (0, True, "ok", "nothing comes back from swap while an engine is at work"),
        (0, False, "ok", "nothing comes back from swap now (no engine is at work)"),
        (4096, True, "warning", "2.0 KiB/s come back from swap while an engine is at work"),
        (8 * MIB, False, "warning", "4.0 MiB/s come back from swap"),
        (8 * MIB, True, "problem", "4.0 MiB/s come back from swap while an engine is at work"),
    ],
)
def test_what_comes_back_from_swap(swapped: int, busy: bool, verdict: str, said: str) -> None:
    found = judge_swap(QUIET, replace(QUIET, at_s=102.0, swapped_in_bytes=swapped), busy=busy)
    assert (found.verdict, found.summary) == (verdict, said)


def test_swap_that_is_not_there_or_not_counted() -> None:
    none = replace(QUIET, at_s=101.0, memory=replace(MEMORY, swap_total_bytes=0))
    assert judge_swap(QUIET, none, busy=True).verdict == "ok"
    untold = replace(QUIET, at_s=101.0, swapped_in_bytes=None)
    assert judge_swap(QUIET, untold, busy=True).verdict == "unknown"


@pytest.mark.parametrize(
    ("limit", "quota", "threads", "largest", "verdict", "said"),
    [
        (None, None, 8, 0, "ok", "no control group limits this process"),
        (32 * GIB, None, 8, 0, "ok", "no control group limits this process"),
        (4 * GIB, None, 8, 2 * GIB, "ok", "limited to 4.0 GiB of 16.0 GiB"),
        (4 * GIB, None, 8, 5 * GIB, "warning", "the largest installed model, 5.0 GiB, does not fit"),
        (None, 2.0, 2, 0, "ok", "limited to 2 of 16 processors"),
        (4 * GIB, 1.5, 2, 0, "warning", "limited to 4.0 GiB of 16.0 GiB and 1.5 of 16 processors: 2 threads"),
    ],
)
def test_limits_of_a_container(
    limit: int | None, quota: float | None, threads: int, largest: int, verdict: str, said: str
) -> None:
    limits = () if limit is None else (CgroupMemory("/a", 64 * GIB, 0), CgroupMemory("/b", limit, 0))
    found = judge_container(MEMORY, limits, quota, CPU, threads, largest)
    assert found.verdict == verdict
    assert said in found.summary
    assert (found.remedy is None) == (verdict == "ok")
