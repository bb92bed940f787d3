"""Plans beside what engines took."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest
from tests.unit.services.plan_bench import KeptFacts

from lilliput.catalogue import InstalledModel
from lilliput.fit import RAM, MemoryNeed, Offload
from lilliput.llama import Buffers
from lilliput.llama.held_memory import Held
from lilliput.pool import LoadPlan, UseReport
from lilliput.services.accuracy import MOST_RAISED_BYTES, Accuracy, Parts, measured_parts

BUFFERS = Buffers({"CPU_Mapped": 1000}, {"CPU": 200}, {"CPU": 80}, {"CPU": 20}, ())
NEED = MemoryNeed(weights_bytes=1000, kv_bytes=200, compute_bytes=90, overhead_bytes=50)
CPU: tuple[str, str, Offload] = ("llama", "CPU", "none")


@dataclass
class Process:
    """What the engine's process holds, changed by the test; ``overhead`` lies beside all its buffers."""

    overhead: int | None = 60

    def __call__(self, pid: int) -> Held:
        if self.overhead is None:
            raise psutil.NoSuchProcess(pid)
        return Held(2000, 1800, 300 + self.overhead - 10, 1010)


@pytest.fixture
def process() -> Process:
    return Process()


@pytest.fixture
def accuracy(process: Process) -> Accuracy:
    return Accuracy(KeptFacts(), "b1", process)


def report(architecture: str | None = "llama", overhead: int = 50, *, filled: bool = True, **fields: Any) -> UseReport:
    needs = {RAM: replace(NEED, overhead_bytes=overhead)} | fields.pop("needs", {})
    plan = LoadPlan(8192, 8, 32, needs, frozenset({"Q4_0"}), **fields)
    loaded = SimpleNamespace(engine=SimpleNamespace(pid=1), ready=SimpleNamespace(buffers=BUFFERS))
    model = InstalledModel("m", "file", (), architecture=architecture)
    return UseReport(model, plan, cast("Any", loaded), filled, 0)


async def note(accuracy: Accuracy, process: Process, *beyond: int, filled: bool = True) -> int:
    """The correction after loads that took so much more than the formula's 50 bytes."""
    for one in beyond:
        process.overhead = 50 + one
        await accuracy.note(report(overhead=50 + accuracy.overhead_bytes(*CPU), filled=filled), 1.0)
    return accuracy.overhead_bytes(*CPU)


def test_buffers_that_belong_to_no_device_are_main_memory() -> None:
    buffers = Buffers(
        {"CPU_Mapped": 1000, "Vulkan0": 500},
        {"CPU": 10, "Vulkan0": 20},
        {"CPU": 1, "Vulkan0": 2, "Vulkan_Host": 4},
        {"Vulkan_Host": 8},
        (),
    )
    assert measured_parts(buffers, [RAM, "Vulkan0"], Held(1200, 1150, 100, 1007)) == {
        RAM: Parts(1000, 10, 13, 100 + 7 - 23),
        "Vulkan0": Parts(500, 20, 2, None),
    }


def test_repacked_weights_belong_to_what_is_anonymous_and_idle_originals_do_not_count() -> None:
    buffers = Buffers({"CPU_Mapped": 1000, "CPU_REPACK": 600}, {"CPU": 10}, {}, {}, ())
    assert measured_parts(buffers, [RAM], Held(1700, 1700, 700, 1000), 450)[RAM] == Parts(1150, 10, 0, 90)


def test_prefixes_in_the_store_are_no_overhead() -> None:
    assert measured_parts(BUFFERS, [RAM], Held(1, 1, 400, 1000), stored_bytes=70)[RAM].overhead == 30


def test_a_file_that_is_not_all_in_memory_hides_libraries_and_nothing_else() -> None:
    assert measured_parts(BUFFERS, [RAM], Held(1, 1, 360, 400))[RAM].overhead == 60


def test_overhead_is_not_told_where_less_was_touched_than_was_taken() -> None:
    assert measured_parts(BUFFERS, [RAM], Held(299, 299, 299, 0))[RAM].overhead is None
    assert measured_parts(BUFFERS, [RAM], Held(10_000))[RAM].overhead is None


def test_where_only_unshared_memory_is_known_that_is_what_was_taken() -> None:
    assert measured_parts(BUFFERS, [RAM], Held(2000, anonymous_bytes=345))[RAM].overhead == 45


async def test_a_load_becomes_a_row_with_errors_by_part(accuracy: Accuracy) -> None:
    assert accuracy.table() == []
    await accuracy.note(report(), 12.5)
    (row,) = accuracy.table()
    assert [row[key] for key in ("architecture", "backend", "offload", "build", "loads")] == [*CPU, "b1", 1]
    assert row["planned"] == {"weights": 1000, "kv": 200, "compute": 90, "overhead": 50}
    assert row["measured"] == {"weights": 1000, "kv": 200, "compute": 100, "overhead": 60}
    assert row["error_percent"] == row["worst_percent"] == round(100 * 20 / 1340, 2)
    assert row["errors_bytes"][RAM]["compute"] == {"median": 10, "worst": 10}
    assert (row["correction_bytes"], row["updated_at"]) == (10, 12.5)


async def test_rows_are_kept_apart_by_architecture_backend_offload_and_build(process: Process) -> None:
    facts = KeptFacts()
    accuracy = Accuracy(facts, "b1", process)
    card: dict[str, Any] = {"needs": {"CUDA0": NEED, "CUDA1": NEED}}
    for one in (report(), report("qwen2"), report(None), report(offload="partial", gpu_layers=3, **card)):
        await accuracy.note(one, 1.0)
    await accuracy.note(report(offload="full", gpu_layers=9, **card), 1.0)
    later = Accuracy(facts, "b2", process)
    await later.load()
    await later.note(report(), 5.0)
    rows = [tuple(row[key] for key in ("architecture", "backend", "offload", "build")) for row in later.table()]
    assert rows == [
        ("llama", "CPU", "none", "b1"),
        ("qwen2", "CPU", "none", "b1"),
        ("unknown", "CPU", "none", "b1"),
        ("llama", "CUDA", "partial", "b1"),
        ("llama", "CUDA", "full", "b1"),
        ("llama", "CPU", "none", "b2"),
    ]


async def test_a_correction_is_of_its_own_backend_and_offload(accuracy: Accuracy, process: Process) -> None:
    process.overhead = 350
    await accuracy.note(report(offload="full", gpu_layers=9, needs={"CUDA0": NEED}), 1.0)
    assert accuracy.overhead_bytes("llama", "CUDA", "full") == 300
    assert accuracy.overhead_bytes("llama", "CUDA", "partial") == 0
    assert accuracy.overhead_bytes("llama", "Vulkan", "full") == 0
    assert accuracy.overhead_bytes(*CPU) == 0


async def test_the_correction_is_what_most_loads_took_beyond_the_formula(accuracy: Accuracy, process: Process) -> None:
    assert await note(accuracy, process) == 0
    assert await note(accuracy, process, 10, 1000, 30) == 30
    assert accuracy.overhead_bytes("qwen2", "CPU", "none") == 0


async def test_a_correction_holds_when_plans_have_become_right_through_it(accuracy: Accuracy, process: Process) -> None:
    assert [await note(accuracy, process, 40) for _ in range(5)] == [40] * 5
    (row,) = accuracy.table()
    assert row["errors_bytes"][RAM]["overhead"] == {"median": 0, "worst": 40}


async def test_a_correction_goes_down_only_as_far_as_no_load_took_more(accuracy: Accuracy, process: Process) -> None:
    assert await note(accuracy, process, -9, -8, -3) == -3
    assert [await note(accuracy, process, -9) for _ in range(3)] == [-3] * 3
    assert await note(accuracy, process, 4) == 0, "one took more than the formula says"


async def test_corrections_have_bounds(accuracy: Accuracy, process: Process) -> None:
    assert await note(accuracy, process, -40) == -12, "a quarter of the formula's"
    assert await note(accuracy, process, *[2 * MOST_RAISED_BYTES] * 3) == MOST_RAISED_BYTES


async def test_engines_that_computed_little_may_only_raise_it(accuracy: Accuracy, process: Process) -> None:
    assert await note(accuracy, process, -9, filled=False) == 0
    assert await note(accuracy, process, 20, 20, filled=False) == 20


async def test_an_engine_that_is_gone_teaches_nothing(accuracy: Accuracy, process: Process) -> None:
    process.overhead = None
    await accuracy.note(report(), 1.0)
    assert accuracy.table() == []


async def test_only_the_last_twenty_loads_count(accuracy: Accuracy) -> None:
    for number in range(25):
        await accuracy.note(report(), float(number))
    (row,) = accuracy.table()
    assert (row["loads"], row["updated_at"]) == (20, 24.0)


async def test_samples_outlive_the_daemon(process: Process) -> None:
    facts = KeptFacts()
    first = Accuracy(facts, "b1", process)
    await first.load()
    await first.note(report(), 1.0)
    second = Accuracy(facts, "b1", process)
    await second.load()
    assert second.table() == first.table()
    assert second.overhead_bytes(*CPU) == 10
