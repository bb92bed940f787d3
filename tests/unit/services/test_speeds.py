"""Speeds over a probe that is played: what is measured, kept, corrected by runs, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.support.model_headers import SMALL, half
from tests.unit.services.plan_bench import KeptFacts, installed
from tests.unit.services.speeds_bench import BANDWIDTH_BYTES_S, Probe

from lilliput.catalogue import InstalledModel
from lilliput.fit import predict
from lilliput.hardware import Accelerator
from lilliput.services import Run, Speeds
from lilliput.services import speeds as speeds_module
from lilliput.services.model_facts import read_facts
from lilliput.services.speeds import Bandwidth
from lilliput.units import GIB

CARD = Accelerator("Vulkan0", "Example GPU", "gpu", 8 * GIB, 6 * GIB, backend="Vulkan")


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Probe:
    made = Probe()
    monkeypatch.setattr(speeds_module, "measure", made.measure)
    monkeypatch.setattr(speeds_module, "quiet", made.quiet)
    return made


Make = Callable[..., Speeds]


@pytest_asyncio.fixture
async def make() -> AsyncIterator[Make]:
    made: list[Speeds] = []

    def one(
        facts: KeptFacts | None = None,
        machine: str = "m1",
        build: str = "b1",
        busy: Callable[[], bool] = lambda: False,
        **fields: Any,
    ) -> Speeds:
        made.append(Speeds(facts or KeptFacts(), machine, build, 2, busy, **fields))
        return made[-1]

    yield one
    for speeds in made:
        await speeds.aclose()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def settled(speeds: Speeds) -> None:
    """Wait for all that it measures in the background."""
    await until(lambda: not speeds._tasks)


async def test_before_anything_was_measured_costs_are_assumed_from_bandwidth(probe: Probe, make: Make) -> None:
    speeds = make()
    await speeds.load()
    assert speeds.cpu is None
    assert speeds.of_cpu(50e9, here=True).bandwidth_bytes_s == 50e9
    assert speeds.of_cpu(50e9, here=False).measured_types == frozenset()


async def test_wanted_types_are_measured_once_and_kept(probe: Probe, make: Make) -> None:
    facts = KeptFacts()
    speeds = make(facts)
    speeds.want({"Q4_K", "F32", "I32"})  # of what the probe cannot make, nothing is asked
    await settled(speeds)
    assert probe.asked == ["Q4_K"]
    assert speeds.cpu is not None
    assert speeds.cpu.measured_types == {"Q4_K"}
    assert speeds.cpu.rate("Q4_K").byte_s == pytest.approx(8e-11, rel=0.01)
    assert speeds.cpu.bandwidth_bytes_s == BANDWIDTH_BYTES_S
    speeds.want({"Q4_K"})
    speeds.want({"Q4_K", "Q8_0"})
    await settled(speeds)
    assert probe.asked == ["Q4_K", "Q8_0"]
    assert speeds.cpu.measured_types == {"Q4_K", "Q8_0"}
    later = make(facts)
    await later.load()
    assert later.cpu == speeds.cpu
    assert later.of_cpu(1e9, here=True) == speeds.cpu
    assert later.of_cpu(1e9, here=False) != speeds.cpu


async def test_another_machine_or_build_starts_over(probe: Probe, make: Make) -> None:
    facts = KeptFacts()
    first = make(facts)
    first.want({"F16"})
    await settled(first)
    for machine, build, bandwidth in (("m1", "b2", BANDWIDTH_BYTES_S), ("m2", "b1", None)):
        other = make(facts, machine, build)
        await other.load()
        assert other.cpu is None
        assert (other.bandwidth.bytes_s if other.bandwidth else None) == bandwidth


async def test_what_the_probe_cannot_measure_is_not_tried_again(probe: Probe, make: Make) -> None:
    probe.broken = {"Q8_0"}
    speeds = make()
    for _ in range(2):
        speeds.want({"Q8_0"})
        await settled(speeds)
    assert probe.asked == ["Q8_0"]
    assert speeds.cpu is None


async def test_a_probe_that_gave_way_to_an_engine_is_tried_again(probe: Probe, make: Make) -> None:
    probe.disturbed = {"Q8_0"}
    speeds = make()
    speeds.want({"Q8_0"})
    await settled(speeds)
    assert probe.asked == ["Q8_0", "Q8_0"]
    assert speeds.cpu is not None
    assert speeds.cpu.measured_types == {"Q8_0"}


async def test_probes_wait_for_a_quiet_machine(probe: Probe, make: Make) -> None:
    probe.idle.clear()
    speeds = make()
    speeds.want({"Q8_0"})
    for _ in range(20):
        await asyncio.sleep(0)
    assert (probe.asked, probe.bandwidths) == ([], 0)
    probe.idle.set()
    await settled(speeds)
    assert probe.asked == ["Q8_0"]


async def test_types_are_measured_with_the_safe_settings_of_engines(probe: Probe, make: Make) -> None:
    speeds = make()
    speeds.want({"Q8_0"})
    await settled(speeds)
    speeds.want({"Q4_K"}, rung="no-amx")
    await settled(speeds)
    assert [request["rung"] for request in probe.requests] == ["native", "no-amx"]


async def test_without_probing_nothing_is_started(probe: Probe, make: Make) -> None:
    speeds = make(probing=False)
    speeds.want({"Q8_0"})
    await settled(speeds)
    assert probe.asked == []


async def test_the_bandwidth_is_measured_once_however_many_ask(probe: Probe, make: Make) -> None:
    facts = KeptFacts()
    speeds = make(facts)
    expected = Bandwidth(BANDWIDTH_BYTES_S, cache_bound=False)
    assert await asyncio.gather(*(speeds.measured_bandwidth() for _ in range(4))) == [expected] * 4
    assert probe.bandwidths == 1
    later = make(facts)
    await later.load()
    assert await later.measured_bandwidth() == expected
    assert probe.bandwidths == 1


@pytest.mark.parametrize("cache_bound", [True, None])
async def test_what_may_be_the_bandwidth_of_caches_is_kept_and_says_so(
    probe: Probe, make: Make, cache_bound: bool | None
) -> None:
    probe.bandwidth = [{"bandwidth_bytes_s": 3e12, "cache_bound": cache_bound}]
    facts = KeptFacts()
    speeds = make(facts)
    for _ in range(3):
        assert await speeds.measured_bandwidth() == Bandwidth(3e12, cache_bound)
    later = make(facts)
    await later.load()
    assert later.bandwidth == speeds.bandwidth
    assert probe.bandwidths == 1


async def test_a_bandwidth_that_cannot_be_measured_is_not_tried_again_and_again(probe: Probe, make: Make) -> None:
    probe.bandwidth = []
    speeds = make()
    for _ in range(3):
        assert await speeds.measured_bandwidth() is None
    assert probe.bandwidths == 1


async def test_the_bandwidth_is_measured_when_no_engine_computes(probe: Probe, make: Make) -> None:
    busy = [True]
    speeds = make(busy=lambda: busy[0])
    assert await speeds.measured_bandwidth() is None
    assert probe.bandwidths == 0
    busy[0], told = False, probe.bandwidth
    probe.bandwidth = None  # an engine wants the cores meanwhile
    assert await speeds.measured_bandwidth() is None
    probe.bandwidth = told
    assert await speeds.measured_bandwidth() == Bandwidth(BANDWIDTH_BYTES_S, cache_bound=False)


async def test_what_experts_cost_is_measured_once_where_a_model_has_some(probe: Probe, make: Make) -> None:
    facts = KeptFacts()
    speeds = make(facts)
    speeds.want({"Q8_0"}, experts=False)
    await settled(speeds)
    dense = speeds.cpu
    assert dense is not None
    assert not dense.experts_measured
    for _ in range(2):
        speeds.want({"Q8_0", "Q4_K"}, experts=True)
        await settled(speeds)
    assert [(one["types"], one["experts"]) for one in probe.requests] == [(["Q8_0"], False), (["Q4_K"], True)]
    assert speeds.cpu is not None
    assert speeds.cpu.experts_measured
    assert speeds.cpu.expert_factor > 1.4
    later = make(facts)
    await later.load()
    later.want({"Q4_K"}, experts=True)
    await settled(later)
    assert len(probe.requests) == 2


async def test_experts_that_cannot_be_measured_are_not_tried_again(probe: Probe, make: Make) -> None:
    probe.broken = {"experts"}
    speeds = make()
    for _ in range(2):
        speeds.want({"Q4_K"}, experts=True)
        await settled(speeds)
    assert probe.asked == ["Q4_K"]
    assert speeds.cpu is not None
    assert speeds.cpu.measured_types == {"Q4_K"}  # what came of it is kept


async def test_each_accelerator_is_measured_for_itself_and_the_cpu_too(probe: Probe, make: Make) -> None:
    facts = KeptFacts()
    speeds = make(facts)
    await speeds.on_accelerators([CARD])
    assert speeds.of_device("Vulkan0") is None
    speeds.want({"Q4_K"})
    await settled(speeds)
    cpu, card = speeds.cpu, speeds.of_device("Vulkan0")
    assert cpu is not None
    assert card is not None
    assert cpu.rate("Q4_K").byte_s == pytest.approx(8e-11, rel=0.01)
    assert card.rate("Q4_K").byte_s == pytest.approx(1e-11, rel=0.05)
    assert card.bandwidth_bytes_s is None  # main memory's is not its own
    asked = {one.get("device"): one for one in probe.requests}
    assert set(asked) == {None, "Vulkan0"}
    assert asked["Vulkan0"]["gpu_layers"] == -1
    later = make(facts)
    await later.on_accelerators([CARD])
    assert later.of_device("Vulkan0") == card


async def test_another_card_in_the_same_place_starts_over(probe: Probe, make: Make) -> None:
    facts = KeptFacts()
    speeds = make(facts)
    await speeds.on_accelerators([CARD])
    speeds.want({"Q4_K"})
    await settled(speeds)
    await speeds.on_accelerators([replace(CARD, free_bytes=0)])
    assert speeds.of_device("Vulkan0") is not None
    for some in (make(facts), speeds):
        await some.on_accelerators([replace(CARD, description="Another GPU")])
        assert some.of_device("Vulkan0") is None


def run_of(model: InstalledModel, tokens: int, seconds: float, **fields: Any) -> Run:
    run = Run(model, prompt_tokens=100, prompt_s=0.1, generated_tokens=tokens, generation_s=seconds)
    return replace(run, **fields)


async def test_real_runs_correct_what_was_measured(probe: Probe, make: Make, tmp_path: Path) -> None:
    model = installed(tmp_path, "m", SMALL.content(half))
    facts = KeptFacts()
    speeds = make(facts)
    speeds.note(run_of(model, 64, 1.0))
    await settled(speeds)
    assert [speeds.cpu] == [None]  # nothing to correct yet
    speeds.want({"F16"})
    await settled(speeds)
    measured = speeds.cpu
    assert measured is not None
    speeds.note(run_of(model, 64, 0.0))
    speeds.note(run_of(model, 8, 1.0))
    await settled(speeds)
    assert speeds.cpu == measured  # too short to tell anything
    speeds.note(run_of(model, 64, 1.0))
    await settled(speeds)
    corrected = speeds.cpu
    assert corrected is not None
    assert corrected.observations == 1
    assert corrected.rate("F16").byte_s > measured.rate("F16").byte_s  # it went slower than was told
    later = make(facts)
    await later.load()
    assert later.cpu == corrected


async def test_a_run_on_an_accelerator_says_nothing_of_the_cpu(probe: Probe, make: Make, tmp_path: Path) -> None:
    model = installed(tmp_path, "m", SMALL.content(half))
    speeds = make()
    speeds.want({"F16"})
    await settled(speeds)
    before = speeds.cpu
    speeds.note(run_of(model, 64, 1.0, prompt_tokens=500, gpu_layers=1))
    await settled(speeds)
    assert speeds.cpu == before


async def test_long_prompts_correct_the_speed_of_prompts_alone(probe: Probe, make: Make, tmp_path: Path) -> None:
    model = installed(tmp_path, "m", SMALL.content(half))
    speeds = make()
    speeds.want({"F16"})
    await settled(speeds)
    before = speeds.cpu
    assert before is not None
    for told_little in ({"prompt_tokens": 100}, {"prompt_s": 0.0}, {"cached_tokens": 400}):
        speeds.note(run_of(model, 1, 0.1, **({"prompt_tokens": 500, "prompt_s": 9.0} | told_little)))
    await settled(speeds)
    assert speeds.cpu == before  # short, not timed, or behind a cache that it had to look at
    speeds.note(run_of(model, 1, 0.1, prompt_tokens=500, prompt_s=9.0, cached_tokens=1))
    await settled(speeds)
    after = speeds.cpu
    assert after is not None
    assert after.rate("F16").element_s > before.rate("F16").element_s
    assert after.rate("F16").byte_s == before.rate("F16").byte_s
    assert after.observations == 0


async def test_tokens_of_the_cache_count_for_the_depth_of_a_run(probe: Probe, make: Make, tmp_path: Path) -> None:
    model = installed(tmp_path, "m", SMALL.content(half))
    speeds = make()
    speeds.want({"F16"})
    await settled(speeds)
    before = speeds.cpu
    assert before is not None
    traffic = read_facts([file.path for file in model.files]).traffic
    told = predict(traffic, before, 4096 + 10 + 32).generation.mid
    speeds.note(run_of(model, 64, 64 / told, prompt_tokens=10, cached_tokens=4096))
    await settled(speeds)
    after = speeds.cpu
    assert after is not None
    assert after.rate("F16").byte_s == pytest.approx(before.rate("F16").byte_s)  # as was told: nothing to correct


async def test_a_run_of_a_model_whose_file_has_gone_is_passed_over(probe: Probe, make: Make, tmp_path: Path) -> None:
    model = installed(tmp_path, "m", SMALL.content(half))
    speeds = make()
    speeds.want({"F16"})
    await settled(speeds)
    before = speeds.cpu
    model.path.unlink()
    speeds.note(run_of(model, 64, 1.0))
    await settled(speeds)
    assert speeds.cpu == before


async def test_what_is_being_measured_ends_with_the_daemon(probe: Probe, make: Make) -> None:
    probe.idle.clear()
    speeds = make()
    speeds.want({"Q8_0"})
    await asyncio.sleep(0)
    await speeds.aclose()
    assert not speeds._tasks
