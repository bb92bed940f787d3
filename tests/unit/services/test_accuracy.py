"""Plans beside what loads took."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.unit.services.plan_bench import KeptFacts

from lilliput.catalogue import InstalledModel
from lilliput.fit import RAM, MemoryNeed
from lilliput.llama import Buffers
from lilliput.pool import LoadPlan, LoadReport
from lilliput.services import accuracy as accuracy_module
from lilliput.services.accuracy import Accuracy, Parts, measured_parts

BUFFERS = Buffers({"CPU_Mapped": 1000}, {"CPU": 200}, {"CPU": 80}, {"CPU": 20}, ())
NEED = MemoryNeed(weights_bytes=1000, kv_bytes=200, compute_bytes=90, overhead_bytes=50)


@pytest.fixture
def private(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What the process of a load holds beside files; changed by the test."""
    held = {"bytes": 360}
    monkeypatch.setattr(accuracy_module, "private_bytes", lambda _pid: held["bytes"])
    return held


def report(architecture: str | None = "llama", overhead: int = 50, **fields: Any) -> LoadReport:
    needs = {RAM: replace(NEED, overhead_bytes=overhead)}
    plan = LoadPlan(8192, 8, 32, needs, frozenset({"Q4_0"}))
    loaded: dict[str, Any] = {
        "engine": SimpleNamespace(pid=1),
        "ready": SimpleNamespace(buffers=BUFFERS),
        "rung": "native",
    }
    model = InstalledModel("m", "file", (), architecture=architecture)
    return LoadReport(model, plan, cast("Any", SimpleNamespace(**loaded | fields)))


def test_buffers_that_belong_to_no_device_are_main_memory() -> None:
    buffers = Buffers(
        {"CPU_Mapped": 1000, "Vulkan0": 500},
        {"CPU": 10, "Vulkan0": 20},
        {"CPU": 1, "Vulkan0": 2, "Vulkan_Host": 4},
        {"Vulkan_Host": 8},
        (),
    )
    assert measured_parts(buffers, [RAM, "Vulkan0"], 100) == {
        RAM: Parts(1000, 10, 13, 100 - 23),
        "Vulkan0": Parts(500, 20, 2, None),
    }


def test_repacked_weights_count_once_and_belong_to_what_is_private() -> None:
    buffers = Buffers({"CPU_Mapped": 1000, "CPU_REPACK": 600}, {"CPU": 10}, {}, {}, ())
    assert measured_parts(buffers, [RAM], 700)[RAM] == Parts(1000, 10, 0, 90)


def test_overhead_is_not_told_where_less_was_touched_than_was_taken() -> None:
    assert measured_parts(BUFFERS, [RAM], 299)[RAM].overhead is None
    assert measured_parts(BUFFERS, [RAM], 0)[RAM].overhead is None


async def test_a_load_becomes_a_row_with_errors_by_part(private: dict[str, int]) -> None:
    accuracy = Accuracy(KeptFacts(), "b1")
    assert accuracy.table() == []
    accuracy.note(report(), 12.5)
    (row,) = accuracy.table()
    assert (row["architecture"], row["backend"], row["build"], row["loads"]) == ("llama", "native", "b1", 1)
    assert row["planned"] == {"weights": 1000, "kv": 200, "compute": 90, "overhead": 50}
    assert row["measured"] == {"weights": 1000, "kv": 200, "compute": 100, "overhead": 60}
    assert row["error_percent"] == row["worst_percent"] == round(100 * 20 / 1340, 2)
    assert row["errors_bytes"][RAM]["compute"] == {"median": 10, "worst": 10}
    assert (row["correction_bytes"], row["updated_at"]) == (10, 12.5)
    await accuracy.aclose()


async def test_rows_are_kept_apart_by_architecture_backend_and_build(private: dict[str, int]) -> None:
    facts = KeptFacts()
    accuracy = Accuracy(facts, "b1")
    accuracy.note(report(), 1.0)
    accuracy.note(report("qwen2"), 2.0)
    accuracy.note(report(None), 3.0)
    accuracy.note(report(rung="no-extra-buffers"), 4.0)
    await accuracy.aclose()
    later = Accuracy(facts, "b2")
    await later.load()
    later.note(report(), 5.0)
    rows = [(row["architecture"], row["backend"], row["build"]) for row in later.table()]
    assert rows == [
        ("llama", "native", "b1"),
        ("qwen2", "native", "b1"),
        ("unknown", "native", "b1"),
        ("llama", "no-extra-buffers", "b1"),
        ("llama", "native", "b2"),
    ]
    await later.aclose()


async def test_the_correction_is_what_most_loads_took_beyond_the_formula(private: dict[str, int]) -> None:
    accuracy = Accuracy(KeptFacts(), "b1")
    assert accuracy.overhead_bytes("llama") == 0
    for beyond in (10, 1000, 30):
        private["bytes"] = 350 + beyond
        accuracy.note(report(overhead=50 + accuracy.overhead_bytes("llama")), 1.0)
    assert accuracy.overhead_bytes("llama") == 30
    assert accuracy.overhead_bytes("qwen2") == 0
    await accuracy.aclose()


async def test_a_correction_holds_when_plans_have_become_right_through_it(private: dict[str, int]) -> None:
    accuracy = Accuracy(KeptFacts(), "b1")
    private["bytes"] = 350 + 40
    for _ in range(5):
        accuracy.note(report(overhead=50 + accuracy.overhead_bytes("llama")), 1.0)
        assert accuracy.overhead_bytes("llama") == 40
    (row,) = accuracy.table()
    assert row["errors_bytes"][RAM]["overhead"] == {"median": 0, "worst": 40}
    await accuracy.aclose()


async def test_what_took_less_is_never_held_against_the_formula(private: dict[str, int]) -> None:
    accuracy = Accuracy(KeptFacts(), "b1")
    private["bytes"] = 310
    accuracy.note(report(), 1.0)
    private["bytes"] = 100
    accuracy.note(report(), 1.0)
    assert accuracy.overhead_bytes("llama") == 0
    await accuracy.aclose()


async def test_only_the_last_twenty_loads_count(private: dict[str, int]) -> None:
    accuracy = Accuracy(KeptFacts(), "b1")
    for number in range(25):
        accuracy.note(report(), float(number))
    (row,) = accuracy.table()
    assert (row["loads"], row["updated_at"]) == (20, 24.0)
    await accuracy.aclose()


async def test_samples_outlive_the_daemon(private: dict[str, int]) -> None:
    facts = KeptFacts()
    first = Accuracy(facts, "b1")
    await first.load()
    await asyncio.gather(*(asyncio.to_thread(lambda: None) for _ in range(2)))
    first.note(report(), 1.0)
    await first.aclose()
    second = Accuracy(facts, "b1")
    await second.load()
    assert second.table() == first.table()
    assert second.overhead_bytes("llama") == 10
