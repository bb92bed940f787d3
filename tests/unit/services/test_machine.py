"""The machine of a plan: budgets with what engines hold, limits, containers, accelerators, described machines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.services.plan_bench import Bench

from lilliput.errors import InvalidRequest
from lilliput.fit import RAM, MemoryNeed, assume
from lilliput.hardware import Accelerator, Hardware, Memory, read_memory
from lilliput.pool import Holding
from lilliput.services import PlanDefaults
from lilliput.services.machine import usable
from lilliput.units import GIB, MIB

GPU = Accelerator("Vulkan0", "Example GPU", "gpu", 8 * GIB, 6 * GIB, backend="Vulkan")


def holding(name: str, weights: int, *, touched: int = 0, idle: bool = True) -> Holding:
    return Holding(name, {RAM: MemoryNeed(weights, 0, 0, 0)}, idle, 0.0, {RAM: touched})


def bench(**fields: Any) -> Bench:
    made = Bench()
    for name, value in fields.items():
        assert hasattr(made, name)
        setattr(made, name, value)
    return made


async def test_what_engines_were_promised_is_taken_off_what_is_available() -> None:
    held = (holding("a", 10 * GIB, touched=4 * GIB, idle=False), holding("b", 2 * GIB, idle=False))
    site = await bench(held=held, available_bytes=40 * GIB).sites.find(None, None)
    budget = site.budgets[RAM]
    assert (budget.promised_bytes, budget.budget_bytes) == (8 * GIB, 32 * GIB)
    assert budget.because == "40.0 GiB available less 0 B in reserve and 8.0 GiB promised to engines"
    assert (site.busy, site.idle) == ({"a": {RAM: 10 * GIB}, "b": {RAM: 2 * GIB}}, {})
    assert site.real


async def test_the_smaller_of_two_limits_holds() -> None:
    made = bench(defaults=PlanDefaults(limit_bytes=20 * GIB))
    for asked, limit in ((None, 20), (8 * GIB, 8), (30 * GIB, 20)):
        budget = (await made.sites.find(None, asked)).budgets[RAM]
        assert budget.limit_bytes == limit * GIB == budget.budget_bytes


async def test_the_reserve_and_the_share_bound_the_budget() -> None:
    made = bench(defaults=PlanDefaults(reserve_bytes=2 * GIB, use_fraction=0.5), available_bytes=10 * GIB)
    assert (await made.sites.find(None, None)).budgets[RAM].budget_bytes == 8 * GIB
    made.available_bytes = None
    assert (await made.sites.find(None, None)).budgets[RAM].because == "50% of 64.0 GiB"


async def test_a_container_s_limit_is_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget follows the control group under which the files of a root say that this process is."""
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 67108864 kB\nMemFree: 1 kB\nMemAvailable: 62914560 kB\n")
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (group / "memory.current").write_text(f"{GIB}\n")
    (group / "memory.stat").write_text("inactive_file 0\nactive_file 0\n")
    made = bench(defaults=PlanDefaults())

    def hardware() -> Hardware:
        cpu = Bench.hardware(made).cpu
        return Hardware("Linux", "6", cpu, read_memory(tmp_path))

    monkeypatch.setattr(made, "hardware", hardware)
    for limit, budget in ((4 * GIB, 3 * GIB - 512 * MIB), (40 * GIB, 32 * GIB), (2 * GIB, 512 * MIB)):
        (group / "memory.max").write_text(f"{limit}\n")
        found = (await made.sites.find(None, None)).budgets[RAM]
        assert (found.total_bytes, found.budget_bytes) == (limit, budget)


async def test_an_accelerator_has_a_budget_of_its_own_and_matrix_libraries_have_none() -> None:
    library = Accelerator("BLAS", "OpenBLAS", "accel", 0, 0)
    made = bench(accelerators=(GPU, library), defaults=PlanDefaults(vram_limit_bytes=5 * GIB))
    site = await made.sites.find(None, None)
    assert list(site.budgets) == [RAM, "Vulkan0"]
    assert site.budgets["Vulkan0"].budget_bytes == 5 * GIB
    (device,) = site.devices
    assert (device.name, device.share, device.overhead_bytes) == ("Vulkan0", 64.0, 64 * MIB)
    assert usable((library,)) == ()


def test_only_devices_that_llama_cpp_puts_layers_on_are_planned_for() -> None:
    """Graphics within the processor only without a card, and a card once, whichever backends list it."""
    within = replace(GPU, name="Vulkan1", kind="igpu")
    card = replace(GPU, name="CUDA0", device_id="0000:01:00.0")
    again = replace(GPU, device_id="0000:01:00.0")
    assert usable((within, card, again)) == (card,)
    assert usable((within,)) == (within,)


async def test_layers_are_shared_out_by_what_may_be_used_of_each_card() -> None:
    cards = (replace(GPU, name="CUDA0"), replace(GPU, name="CUDA1", free_bytes=2 * GIB))
    site = await bench(accelerators=cards, defaults=PlanDefaults(vram_reserve_bytes=0)).sites.find(None, None)
    assert [device.share for device in site.devices] == [48.0, 16.0]


async def test_an_accelerator_of_unknown_free_memory_counts_as_empty() -> None:
    made = bench(accelerators=(Accelerator("CUDA0", "x", "gpu", 8 * GIB, None),), defaults=PlanDefaults())
    budget = (await made.sites.find(None, None)).budgets["CUDA0"]
    assert budget.budget_bytes == int(8 * GIB * 0.95)


async def test_a_described_machine_has_nothing_of_this_one() -> None:
    made = bench(held=(holding("a", 10 * GIB),), accelerators=(GPU,), memory_bytes=GIB)
    site = await made.sites.find("macbook-m2-16gb", None)
    assert not site.real
    assert site.hardware.described == "macbook-m2-16gb"
    assert site.hardware.unified
    assert (site.busy, site.idle) == ({}, {})
    assert list(site.budgets) == [RAM, "MTL0"]
    assert site.budgets[RAM].promised_bytes == 0
    assert site.budgets[RAM].total_bytes == 16 * GIB
    assert site.cpu.bandwidth_bytes_s == 100e9


async def test_an_accelerator_costs_what_was_measured_of_it_and_else_what_its_kind_is_assumed_to_cost() -> None:
    made = bench(accelerators=(GPU,), memory_bandwidth=(25e9, False))
    (device,) = (await made.sites.find(None, None)).devices
    assert device.calibration == assume(200e9, "gpu")  # a card has faster memory than the machine
    made.measured = {"Vulkan0": assume(77e9, "gpu")}
    (device,) = (await made.sites.find(None, None)).devices
    assert device.calibration == made.measured["Vulkan0"]
    table = {"memory": "24 GiB", "cores": 8, "accelerators": [{"name": "Vulkan0", "memory": "8 GiB"}]}
    (other,) = (await made.sites.find(table, None)).devices
    assert other.calibration == assume(200e9, "gpu")  # of another machine nothing was measured


@pytest.mark.parametrize(("unified", "kind"), [(True, "gpu"), (False, "igpu")])
async def test_an_accelerator_without_memory_of_its_own_reads_at_memory_s_rate(unified: bool, kind: str) -> None:
    made = bench(accelerators=(replace(GPU, kind=kind),), memory_bandwidth=(25e9, False), unified=unified)
    (device,) = (await made.sites.find(None, None)).devices
    assert device.calibration == assume(25e9, "unified")


async def test_a_described_card_s_peak_bounds_its_prompts() -> None:
    (card,) = (await bench().sites.find("pc-32gb-24gb-vram", None)).devices
    assert card.calibration == assume(936e9, "gpu", flops=71e12)
    (mac,) = (await bench().sites.find("macbook-m2-16gb", None)).devices
    assert mac.calibration == assume(100e9, "unified")


@pytest.mark.parametrize(
    ("measured", "used"),
    [((None, None), 20e9), ((50e9, False), 50e9), ((50e9, None), 50e9), ((3e12, True), 20e9), ((9e9, True), 9e9)],
)
async def test_what_the_caches_reach_says_only_that_memory_is_not_faster(
    measured: tuple[float | None, bool | None], used: float
) -> None:
    made = bench(memory_bandwidth=measured, accelerators=(replace(GPU, kind="igpu"),))
    (device,) = (await made.sites.find(None, None)).devices
    assert device.calibration.bandwidth_bytes_s == used


async def test_a_table_describes_a_machine_and_what_is_wrong_with_it_is_told() -> None:
    sites = bench().sites
    site = await sites.find({"name": "mine", "memory": "24 GiB", "cores": 8}, 4 * GIB)
    assert (site.hardware.described, site.hardware.memory.total_bytes) == ("mine", 24 * GIB)
    assert site.budgets[RAM].budget_bytes == 4 * GIB
    assert (await sites.find({"memory": "8 GiB", "cores": 2}, None)).hardware.described == "described"
    for wrong in ("macbok-m2", {}, {"memory": "much", "cores": 2}, {"memory": "8 GiB", "cores": 2, "colour": "red"}):
        with pytest.raises(InvalidRequest) as caught:
            await sites.find(wrong, None)
        assert caught.value.param == "machine"


def test_the_machine_that_is_read_is_not_cached() -> None:
    made = bench(memory_bytes=8 * GIB)
    assert made.hardware().memory == Memory(8 * GIB, 8 * GIB, 8 * GIB)
    made.memory_bytes = 4 * GIB
    assert made.sites.budgets(made.hardware())[RAM].total_bytes == 4 * GIB


async def test_engines_that_make_room_count_as_gone() -> None:
    held = (
        holding("mine", 10 * GIB, touched=4 * GIB, idle=False),
        holding("idle", 5 * GIB, touched=2 * GIB),
        holding("busy", 3 * GIB, touched=GIB, idle=False),
    )
    sites = bench(held=held, available_bytes=50 * GIB).sites
    site = await sites.find(None, None)
    assert (site.budgets[RAM].available_bytes, site.budgets[RAM].promised_bytes) == (52 * GIB, 8 * GIB)
    assert (site.idle, list(site.busy)) == ({"idle": {RAM: 5 * GIB}}, ["mine", "busy"])
    own = await sites.find(None, None, {"mine"})
    assert (own.budgets[RAM].available_bytes, own.budgets[RAM].promised_bytes) == (56 * GIB, 2 * GIB)
    assert list(own.busy) == ["busy"]


async def test_the_daemon_s_own_limit_is_no_limit_of_another_machine() -> None:
    made = bench(defaults=PlanDefaults(limit_bytes=GIB))
    described = {"name": "other", "memory": "64 GiB", "cores": 8}
    assert (await made.sites.find(described, None)).budgets[RAM].limit_bytes is None
    assert (await made.sites.find(described, 8 * GIB)).budgets[RAM].budget_bytes == 8 * GIB
