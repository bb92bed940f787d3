"""Gives memory back while engines serve: prefixes, idle engines, a part of what a busy one has."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from lilliput.fit import RAM
from lilliput.hardware import private_bytes
from lilliput.pool.loading import LoadPlan
from lilliput.pool.policy import Holding
from lilliput.pool.pressure import Stock
from lilliput.pool.resident import Resident
from lilliput.pool.steps import Steps
from lilliput.units import counted, format_bytes

FIRST_REST_S, LONGEST_REST_S = 300.0, 3600.0
"""An engine that stepped down for want of memory does not climb back before: what took the memory may come again."""


@dataclass(frozen=True, slots=True)
class MemoryNow:
    """What was seen at the last look: whether memory is short and by what signs, and what is available.

    ``watched`` False: nobody looks.
    """

    watched: bool = False
    pressed: bool = False
    because: str = ""
    available_bytes: int | None = None


class Engines(Protocol):
    """The pool, as far as memory is given back."""

    def holdings(self) -> Sequence[Holding]:
        """What each of them holds."""
        ...

    async def end_idle(self, key: str) -> None:
        """End an idle engine; nothing where it has gone."""
        ...

    async def load_anew(self, resident: Resident) -> None:
        """Load an engine again as soon as what it answers has ended."""
        ...


class Loads(Protocol):
    """The loader, as far as engines are loaded with less and with more again."""

    async def smaller(self, resident: Resident, because: str) -> LoadPlan | None:
        """How one could be loaded with less, which its next load does; None where there is no way."""
        ...

    async def could_have_more(self, resident: Resident) -> bool:
        """Whether one that gave something up would fit now as it was planned."""
        ...

    def forget(self, key: str) -> None:
        """Let the next load of this engine take all that it would like to."""
        ...


@dataclass(slots=True)
class _Rest:
    """Until when an engine that stepped down stays so: twice as long each time that follows soon upon the last."""

    until_s: float = 0.0
    rest_s: float = 0.0

    def note(self, now_s: float) -> None:
        soon = self.rest_s and now_s < self.until_s + self.rest_s
        self.rest_s = min(2 * self.rest_s, LONGEST_REST_S) if soon else FIRST_REST_S
        self.until_s = now_s + self.rest_s


class Relief:
    """What the ``residents`` of a pool can give back, and when they get it again.

    ``mapped_is_available``: the system counts mapped files as available memory, though an engine reads them for every
    token. ``now`` is what the watch saw last.
    """

    def __init__(
        self,
        engines: Engines,
        residents: Callable[[], Collection[Resident]],
        is_pinned: Callable[[str], bool],
        loads: Loads,
        steps: Steps,
        *,
        mapped_is_available: bool = sys.platform == "linux",
    ) -> None:
        self._engines = engines
        self._residents = residents
        self._is_pinned = is_pinned
        self._loads = loads
        self._steps = steps
        self._mapped_is_available = mapped_is_available
        self._rests: dict[str, _Rest] = {}
        self.now = MemoryNow()

    def stock(self) -> Stock:
        """What there is to give; reads no file."""
        ready = self._ready()
        mapped = (_mapped_bytes(one) for one in self._residents()) if self._mapped_is_available else ()
        return Stock(
            prefixes=any(_prefixes(one) != (0, 0) for one in ready),
            idle=any(not one.users and not self._is_pinned(one.model.name) for one in ready),
            ready=any(not one.forced for one in ready),
            mapped_bytes=sum(mapped),
        )

    def drop_prefixes(self, because: str) -> None:
        """Tell all engines to forget what they only keep for later."""
        for one in self._ready():
            tokens, size = _prefixes(one)
            if (tokens or size) and one.engine is not None:
                before = private_bytes(one.engine.pid) if one.engine.pid else None
                one.engine.drop_prefixes()
                what = f"{format_bytes(size)} of saved prefixes and {counted(tokens, 'cell')} of idle ones are dropped"
                self._steps.note("drop", one.key, f"{what}: {because}", before_bytes=before)

    async def evict(self, because: str) -> bool:
        """End the idle engine of least worth; False where there is none."""
        now_s = asyncio.get_running_loop().time()
        idle = [one for one in self._engines.holdings() if one.idle]
        if not idle:
            return False
        least = min(idle, key=lambda one: one.worth(now_s))
        size = sum(need.total_bytes for need in least.needs.values())
        self._steps.note("evict", least.name, f"the idle engine is ended: {because}", before_bytes=size, after_bytes=0)
        await self._engines.end_idle(least.name)
        return True

    async def step_down(self, because: str) -> bool:
        """Load the engine that holds most, of those that can do with less, with less once its answers have ended.

        False when there is none: what was asked for stays as it is, and so does what was forced.
        """
        for one in sorted(self._ready(), key=_ram_bytes, reverse=True):
            plan, had = None if one.forced else await self._loads.smaller(one, because), _ram_bytes(one)
            if plan is None or one.stopping:
                continue
            text = f"it is loaded with less as soon as its answers have ended: {because}"
            self._steps.note("step-down", one.key, text, before_bytes=had, after_bytes=plan.needs[RAM].total_bytes)
            self._rests.setdefault(one.key, _Rest()).note(asyncio.get_running_loop().time())
            await self._engines.load_anew(one)
            return True
        return False

    async def climb(self, resident: Resident) -> None:
        """Load an idle engine as it was planned before it gave something up, where there is memory for that again.

        Not while memory is short, nor soon after it stepped down.
        """
        rest = self._rests.get(resident.key)
        if self.now.pressed or (rest is not None and asyncio.get_running_loop().time() < rest.until_s):
            return
        if not await self._loads.could_have_more(resident) or resident.users or resident.stopping:
            return
        text = "there is memory for all of it again: it is loaded as it was planned"
        self._steps.note("climb", resident.key, text, before_bytes=_ram_bytes(resident))
        self._loads.forget(resident.key)
        await self._engines.load_anew(resident)

    def _ready(self) -> list[Resident]:
        return [one for one in self._residents() if one.loaded is not None and not (one.stopping or one.broken)]


def _prefixes(resident: Resident) -> tuple[int, int]:
    """Cells of idle prefixes, and bytes of saved ones."""
    if resident.engine is None:
        return 0, 0
    stats = resident.engine.stats()
    return resident.engine.load.cached_tokens, 0 if stats is None else stats.totals["store_bytes"]


def _ram_bytes(resident: Resident) -> int:
    need = None if resident.plan is None else resident.plan.needs.get(RAM)
    return 0 if need is None else need.total_bytes


def _mapped_bytes(resident: Resident) -> int:
    plan = resident.plan
    need = None if plan is None or plan.memory_lock else plan.needs.get(RAM)
    return 0 if need is None else need.weights_bytes - need.copied_bytes
