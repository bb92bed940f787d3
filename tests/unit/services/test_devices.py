"""Listing accelerators: who waits for it, when it is done again, and what is told when it fails."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace

import pytest

from lilliput.fit import RAM, MemoryNeed
from lilliput.hardware import Accelerator
from lilliput.pool import Holding
from lilliput.services import Devices
from lilliput.services.devices import FRESH_S, list_devices

CARD = Accelerator("Vulkan0", "Example GPU", "gpu", 8000, 6000, backend="Vulkan")


class Bench:
    """Listings as scripted, engines and time by hand."""

    def __init__(self, *answers: Sequence[Accelerator] | Exception) -> None:
        self.answers = list(answers)
        self.gate = asyncio.Event()
        self.gate.set()
        self.held: tuple[Holding, ...] = ()
        self.now_s = 100.0
        self.asked = 0
        self.heard: list[tuple[bool, list[str]]] = []
        self.devices = Devices(
            self._list, lambda: self.held, clock=lambda: self.now_s, retry_s=0, on_listed=self._on_listed
        )

    async def _list(self) -> Sequence[Accelerator]:
        self.asked += 1
        await self.gate.wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _on_listed(self, usable: Sequence[Accelerator]) -> None:
        self.heard.append((self.devices.looked, [one.name for one in usable]))

    def looked(self) -> bool:
        return self.devices.looked

    def found(self) -> tuple[Accelerator, ...]:
        return self.devices.accelerators

    def problem(self) -> str | None:
        return self.devices.problem

    async def later(self) -> int | None:
        """What is free of the card when the last listing is old."""
        self.now_s += FRESH_S
        await self.devices.refresh()
        (card,) = self.devices.accelerators
        return card.free_bytes


def engine(size: int) -> Holding:
    return Holding("a", {"Vulkan0": MemoryNeed(size, 0, 0, 0)}, True, 0.0, {RAM: 7, "Vulkan0": size})


async def test_who_asks_early_waits_for_the_first_listing() -> None:
    bench = Bench([CARD])
    bench.gate.clear()
    run, early = asyncio.create_task(bench.devices.run()), asyncio.create_task(bench.devices.refresh())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not bench.looked()
    assert not early.done()
    bench.gate.set()
    await asyncio.gather(run, early)
    assert bench.looked()
    assert bench.devices.accelerators == (CARD,)
    assert bench.asked == 1


async def test_those_that_hold_layers_are_told_on_before_anybody_plans_with_them() -> None:
    found = [CARD, Accelerator("BLAS", "OpenBLAS", "accel", 0, 0)]
    bench = Bench(found, ValueError("ended"), found)
    await bench.devices.run()
    expected = [(False, ["Vulkan0"])]
    assert bench.heard == expected
    for more in ([], [(True, ["Vulkan0"])]):  # a listing that failed tells nothing
        bench.now_s += FRESH_S
        await bench.devices.refresh()
        expected += more
        assert bench.heard == expected


async def test_a_listing_that_failed_is_told_and_tried_again() -> None:
    bench = Bench(TimeoutError("no answer within 30 s"), ValueError("ended"), [CARD])
    run = asyncio.create_task(bench.devices.run())
    await bench.devices.refresh()
    assert bench.looked()
    assert not bench.found()
    assert bench.problem() == "the accelerators of this machine could not be listed: no answer within 30 s"
    await run
    assert bench.problem() is None
    assert bench.found() == (CARD,)


async def test_what_others_take_later_is_seen_and_asked_about_once_in_a_while() -> None:
    bench = Bench([CARD], [replace(CARD, free_bytes=2000)])
    await bench.devices.run()
    await bench.devices.refresh()
    assert bench.asked == 1
    bench.now_s += FRESH_S
    await asyncio.gather(bench.devices.refresh(), bench.devices.refresh())
    assert bench.asked == 2
    assert [one.free_bytes for one in bench.devices.accelerators] == [2000]


async def test_what_our_engines_hold_counts_as_free_whether_the_driver_sees_it_or_not() -> None:
    seen = Bench([CARD], [replace(CARD, free_bytes=3500)], [replace(CARD, free_bytes=7000)])
    await seen.devices.run()
    seen.held = (engine(2000),)
    assert await seen.later() == 5500  # 500 went to others
    assert await seen.later() == 7000  # no more than was ever seen to be free
    blind = Bench([CARD], [CARD])
    await blind.devices.run()
    blind.held = (engine(2000),)
    assert await blind.later() == 6000


async def test_without_accelerators_nothing_is_asked_again() -> None:
    bench = Bench([Accelerator("BLAS", "OpenBLAS", "accel", 0, 0)])
    await bench.devices.run()
    bench.now_s += 10 * FRESH_S
    await bench.devices.refresh()
    assert bench.asked == 1


async def test_when_the_second_listing_fails_the_first_still_holds() -> None:
    bench = Bench([CARD], OSError("no more processes"))
    await bench.devices.run()
    assert await bench.later() == 6000
    assert bench.devices.problem is not None
    assert "no more processes" in bench.devices.problem


async def test_a_child_lists_what_this_build_computes_on() -> None:
    assert all(one.name and one.kind != "cpu" for one in await list_devices())


async def test_a_child_that_crashes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false") or "")
    with pytest.raises(ValueError, match="status 1"):
        await list_devices()
