"""What engines copy of weights, by the rung that holds for a file's tensor types."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from tests.unit.services.plan_bench import KeptFacts

from lilliput.engine import verdict_key
from lilliput.errors import StorageError
from lilliput.fit import NO_REPACKING, Repacking
from lilliput.llama import Rung
from lilliput.services import Repacks

RUNGS: tuple[Rung, ...] = ("native", "no-extra-buffers")
FOURS, EIGHTS = frozenset({"Q4_0", "F32"}), frozenset({"Q8_0", "F32"})
NOTHING = {"types": {}, "experts": False, "tied_output": False}
SOME = {"types": {"Q4_0": {"buffer": "CPU_REPACK", "rows": 8, "ratio": 1.0}}, "experts": True, "tied_output": True}


class Child:
    """Answers by rung, and who was asked."""

    def __init__(self, answers: Mapping[Rung, dict[str, Any] | None]) -> None:
        self.answers = answers
        self.asked: list[Rung] = []

    async def __call__(self, rung: Rung) -> dict[str, Any] | None:
        self.asked.append(rung)
        await asyncio.sleep(0)
        return self.answers[rung]


class Refusing(KeptFacts):
    """A disk that takes nothing for a while."""

    refuses = True

    def set_fact(self, key: str, value: str) -> None:
        if self.refuses:
            raise StorageError("the disk is full")
        super().set_fact(key, value)


async def test_files_are_told_by_the_rung_that_held_for_their_types() -> None:
    facts, child = KeptFacts(), Child({"native": SOME, "no-extra-buffers": NOTHING})
    facts.set_fact(verdict_key("m", "b", EIGHTS), "no-extra-buffers")
    repacks = Repacks(facts, "m", "b", RUNGS, child)
    assert await repacks.of([FOURS, EIGHTS]) == {FOURS: Repacking.from_mapping(SOME), EIGHTS: NO_REPACKING}
    facts.set_fact(verdict_key("m", "b", FOURS), "no-extra-buffers")
    assert await repacks.of([FOURS]) == {FOURS: NO_REPACKING}


async def test_a_rung_is_asked_about_once_for_a_machine_and_build() -> None:
    facts, child = KeptFacts(), Child({"native": SOME})
    repacks = Repacks(facts, "m", "b", RUNGS, child)
    await asyncio.gather(*(repacks.of([FOURS]) for _ in range(3)), repacks.of([EIGHTS]))
    again = await Repacks(facts, "m", "b", RUNGS, child).of([FOURS])
    assert again[FOURS] == Repacking.from_mapping(SOME)
    assert child.asked == ["native"]
    await Repacks(facts, "m", "other", RUNGS, child).of([FOURS])
    assert child.asked == ["native", "native"]


async def test_what_nobody_could_tell_is_counted_as_nothing_and_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    facts, child = KeptFacts(), Child({"native": None, "no-extra-buffers": None})
    assert await Repacks(facts, "m", "b", RUNGS, child).of([FOURS]) == {FOURS: NO_REPACKING}
    assert "did not say which weights it repacks (native)" in caplog.text
    assert facts.kept == {}


async def test_what_the_store_refused_once_is_asked_for_again() -> None:
    facts, child = Refusing(), Child({"native": SOME})
    repacks = Repacks(facts, "m", "b", RUNGS, child)
    with pytest.raises(StorageError):
        await repacks.of([FOURS])
    facts.refuses = False
    assert await repacks.of([FOURS]) == {FOURS: Repacking.from_mapping(SOME)}


async def test_a_rung_that_does_not_compute_here_is_passed_over_once_as_engines_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    facts, child = KeptFacts(), Child({"native": None, "no-extra-buffers": SOME})
    for _ in range(2):
        assert await Repacks(facts, "m", "b", RUNGS, child).of([FOURS]) == {FOURS: Repacking.from_mapping(SOME)}
    assert child.asked == ["native", "no-extra-buffers"]
    assert not caplog.text


async def test_a_child_that_was_too_slow_says_nothing_of_its_rung() -> None:
    async def slow(_rung: Rung) -> None:
        raise TimeoutError

    facts = KeptFacts()
    assert await Repacks(facts, "m", "b", RUNGS, slow).of([FOURS]) == {FOURS: NO_REPACKING}
    assert facts.kept == {}


async def test_what_was_asked_ahead_is_not_asked_again() -> None:
    child = Child({"native": SOME})
    repacks = Repacks(KeptFacts(), "m", "b", RUNGS, child)
    repacks.prepare()
    repacks.prepare()
    assert await repacks.of([FOURS]) == {FOURS: Repacking.from_mapping(SOME)}
    assert child.asked == ["native"]


async def test_those_who_stop_asking_end_the_child() -> None:
    started = asyncio.Event()

    async def forever(_rung: Rung) -> None:
        started.set()
        await asyncio.Event().wait()

    repacks = Repacks(KeptFacts(), "m", "b", RUNGS, forever)
    asking = asyncio.create_task(repacks.of([FOURS]))
    await started.wait()
    await repacks.aclose()
    with pytest.raises(asyncio.CancelledError):
        await asking
