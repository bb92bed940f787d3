"""Speeds over a probe that is played: what is measured, kept, corrected by runs, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from tests.support.model_headers import SMALL, half
from tests.unit.services.plan_bench import KeptFacts, installed

from lilliput.catalogue import InstalledModel
from lilliput.services import Run, Speeds
from lilliput.services import speeds as speeds_module

BANDWIDTH_BYTES_S = 25e9


def line(run: str, kind: str, layers: int, size: int, byte_s: float) -> dict[str, Any]:
    """A line of the probe for a model that costs 10 microseconds a layer beside its bytes."""
    return {
        "run": run,
        "type": kind,
        "layers": layers,
        "vocabulary": 1000 * layers,
        "weight_bytes": {kind: size},
        "decode_s": layers * 1e-5 + size * byte_s,
        "sample_s": 1e-4,
        "prompt_s": 0.1,
        "prompt_tokens": 64,
        "busy": 1.0,
    }


class Probe:
    """Plays the children: the bandwidth, then for each type what ``byte_s`` says. Types of ``broken`` print nothing."""

    def __init__(self) -> None:
        self.byte_s = {"F16": 5e-11, "Q4_K": 8e-11, "Q8_0": 6e-11}
        self.broken: set[str] = set()
        self.disturbed: set[str] = set()
        self.asked: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.bandwidths = 0
        self.idle = asyncio.Event()
        self.idle.set()

    async def measure(
        self, arguments: tuple[str, ...], request: bytes, timeout_s: float, busy: Callable[[], bool] | None = None
    ) -> list[dict[str, Any]] | None:
        assert timeout_s > 0
        if arguments[0] == "lilliput.hardware.bandwidth":
            self.bandwidths += 1
            return [
                {"bandwidth_bytes_s": 3e12, "beyond_cache": False},
                {"bandwidth_bytes_s": BANDWIDTH_BYTES_S, "beyond_cache": True},
            ]
        asked = msgspec.json.decode(request)
        self.requests.append(asked)
        (kind,) = asked["types"]
        self.asked.append(kind)
        if kind in self.disturbed:
            self.disturbed.discard(kind)
            return None
        if kind in self.broken:
            return []
        byte_s = self.byte_s[kind]
        return [line("small", kind, 4, 10_000_000, byte_s), line("large", kind, 8, 400_000_000, byte_s)]

    async def quiet(self, busy: Callable[[], bool], for_s: float) -> None:
        assert for_s > 0
        await self.idle.wait()


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

    def one(facts: KeptFacts | None = None, machine: str = "m1", build: str = "b1", **fields: Any) -> Speeds:
        made.append(Speeds(facts or KeptFacts(), machine, build, 2, lambda: False, **fields))
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
    assert speeds.of_cpu(None, here=True).bandwidth_bytes_s == 20e9
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
        assert (other.cpu, other.bandwidth_bytes_s) == (None, bandwidth)


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
    assert await asyncio.gather(*(speeds.measured_bandwidth() for _ in range(4))) == [BANDWIDTH_BYTES_S] * 4
    assert probe.bandwidths == 1
    later = make(facts)
    await later.load()
    assert await later.measured_bandwidth() == BANDWIDTH_BYTES_S
    assert probe.bandwidths == 1


def run_of(model: InstalledModel, tokens: int, seconds: float) -> Run:
    return Run(model, prompt_tokens=100, prompt_s=0.1, generated_tokens=tokens, generation_s=seconds)


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
