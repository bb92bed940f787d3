"""Loads: room is made, an engine is started, and where memory turns out to be short, it is tried with less."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from lilliput.errors import Busy, DoesNotFit, EngineDied, EngineError, EngineLoadFailed, LilliputError
from lilliput.fit import RAM, Budget, MemoryNeed
from lilliput.hardware import oom_kills
from lilliput.pool.admission import within_bounds
from lilliput.pool.ladder import MOST_STEPS, Concessions, keeps_to, less_than, memory_is_to_blame, within
from lilliput.pool.loading import LoadPlan, LoadPlanner
from lilliput.pool.policy import Holding, at_once, evictions, fits, freed, idle_ones, rooms, to_drain
from lilliput.pool.refusals import does_not_fit, refuse_beside_lasting
from lilliput.pool.resident import Loaded, Resident
from lilliput.pool.settings import PoolSettings
from lilliput.pool.starting import Starter
from lilliput.pool.steps import Steps

log = logging.getLogger(__name__)

FREE_EVICTIONS, FREE_WITHIN_S = 4, 60.0
"""So many engines may be evicted within so many seconds before those that were loaded only just now are spared."""

_SMALLER = ("stop other models", "lower the context", "pull a smaller variant", "force it")


class Ledger(Protocol):
    """What others hold, and how idle ones among them are ended."""

    def holdings(self, *, but: Resident | None = None) -> tuple[Holding, ...]:
        """What every engine holds, but this one's, and what is reserved."""
        ...

    def frees_s(self, keys: Collection[str]) -> float:
        """In how many seconds these engines are likely to be through with what they have now."""
        ...

    async def end_idle(self, key: str) -> None:
        """End an idle engine; nothing where it has gone."""
        ...

    def drain(self, key: str) -> None:
        """Give an engine no new requests and end it when its answers have ended; nothing where it has gone."""
        ...

    @property
    def changed(self) -> asyncio.Event:
        """Is set as soon as somebody holds less, or has become idle; a new one then takes its place."""
        ...


class Loader:
    """Loads models for the pool, which owns the residents. ``make_way`` is awaited before a load; ``starters`` makes
    what starts its engines; ``steps`` hears what is given up.
    """

    def __init__(
        self,
        settings: PoolSettings,
        budgets: Callable[[], Awaitable[Mapping[str, Budget]]],
        planner: LoadPlanner,
        ledger: Ledger,
        starters: Callable[[], Starter],
        make_way: Callable[[], Awaitable[None]] | None,
        steps: Steps,
    ) -> None:
        self._settings = settings
        self._budgets = budgets
        self._planner = planner
        self._ledger = ledger
        self._starters = starters
        self._make_way = make_way
        self._steps = steps
        self._turn = asyncio.Lock()
        self._evicted_s: deque[float] = deque(maxlen=FREE_EVICTIONS)
        self._conceded: dict[str, Concessions] = {}

    async def load(self, resident: Resident) -> Loaded:
        """The engine of ``resident``, whose plan and engine are set on the way.

        Raises DoesNotFit, EngineLoadFailed, EngineDied, BadFile, InvalidRequest.
        """
        if self._make_way is not None:
            await self._make_way()
        starter = self._starters()
        try:
            while True:
                starter.prepare()
                plan = await self._make_room(resident)
                resident.oom_kills = oom_kills()
                try:
                    return await starter.start(resident.model, plan, partial(setattr, resident, "engine"))
                except (EngineDied, EngineLoadFailed) as error:
                    if not self._short_of_memory(resident, error):
                        raise
                    if not self.concede(resident, error):
                        raise self._refusal(resident, plan) from error
                    resident.plan = None  # it holds nothing while the next one is made
        finally:
            await starter.aclose()

    def concede(self, resident: Resident, error: EngineError) -> bool:
        """Whether an engine failed for want of memory, and the model may be loaded in less of it next time."""
        if resident.plan is None or not self._short_of_memory(resident, error):
            return False
        return self._conceded.setdefault(resident.key, Concessions()).note_failure(resident.plan, error)

    def _short_of_memory(self, resident: Resident, error: EngineError) -> bool:
        kills, before = oom_kills(), resident.oom_kills
        killed = kills is not None and before is not None and kills > before
        return not resident.forced and memory_is_to_blame(error, oom_killed=killed)

    def _refusal(self, resident: Resident, least: LoadPlan) -> DoesNotFit:
        """What to raise when nothing smaller than ``least`` is left to try; who asks again may find more memory."""
        refusal = self._conceded.pop(resident.key).refusal(resident.model.name, least)
        self._steps.note("refused", resident.key, refusal.message, after_bytes=least.total_bytes)
        return refusal

    def forget(self, key: str) -> None:
        """Let the next load of this engine take all that it would like to."""
        self._conceded.pop(key, None)

    async def could_have_more(self, resident: Resident) -> bool:
        """Whether a degraded engine would fit now as it was planned before anything was given up."""
        conceded = self._conceded.get(resident.key)
        if conceded is None or conceded.wanted is None:
            return False
        budgets, held = await self._budgets(), self._ledger.holdings()
        # What it has touched is missing from what is available, and comes back when it ends.
        room = freed(rooms(budgets, held), (one for one in held if one.name == resident.key))
        return fits(conceded.wanted.needs, room)

    async def smaller(self, resident: Resident, because: str) -> LoadPlan | None:
        """How an engine would be loaded with less of main memory, in what there will be when it has ended; its next
        load keeps to that. None where there is no such way: then nothing changes.
        """
        plan, conceded = resident.plan, self._conceded.get(resident.key) or Concessions()
        if plan is None or plan.terms.forced or RAM not in plan.needs or len(conceded.steps) >= MOST_STEPS:
            return None
        budgets, held = await self._budgets(), self._ledger.holdings()
        room = freed(rooms(budgets, held), (one for one in held if one.name == resident.key))
        room = within(room, less_than(plan, conceded.limits, in_ram=True))
        try:
            less = await self._ask(resident, room)
        except LilliputError:  # below a floor, for one
            return None
        if not fits(less.needs, room):
            return None
        conceded.note_shortage(plan, because)
        self._conceded[resident.key] = conceded
        return less

    async def reserve(self, key: str, needs: Mapping[str, MemoryNeed], *, evict: bool) -> None:
        """See that there is room for work beside the engines, ending idle ones with ``evict``; DoesNotFit."""
        while True:
            budgets, others = await self._budgets(), self._ledger.holdings()
            room = rooms(budgets, others)
            keys = evictions(needs, room, at_once(others) if evict else (), _now_s())
            if keys is None:
                raise does_not_fit(key, needs, room, "", hint="stop other models: lilliput ps shows them")
            if not keys:
                return
            log.info("ending the idle engine of %s to make room for %s", keys[0], key)
            await self._ledger.end_idle(keys[0])

    async def _make_room(self, resident: Resident) -> LoadPlan:
        """End idle engines until the model fits, then reserve its memory in the ledger.

        Loads take their turns in the order in which they came: one that must wait for memory is not overtaken. Raises
        DoesNotFit when no waiting helps, Busy when it took too long.
        """
        async with self._turn:
            began_s = _now_s()
            while True:
                changed = self._ledger.changed
                plan = await self._try_room(resident)
                if isinstance(plan, LoadPlan):
                    return plan
                await self._wait(resident, plan, changed, _now_s() - began_s)

    async def _try_room(self, resident: Resident) -> LoadPlan | _Blocked:
        """The plan, its memory reserved; or who is in its way, when busy engines are.

        The plan is made for what is there when all idle engines have gone, and for less where that has failed before.
        After each end all is looked at anew: engines may have come into use, or gone, in the meantime.
        """
        conceded = self._conceded.get(resident.key) or Concessions()
        while True:
            budgets = await self._budgets()
            others = self._ledger.holdings(but=resident)
            room = rooms(budgets, others)
            most = freed(room, (one for one in others if one.idle))
            plan = await self._plan(resident, most, freed(room, (one for one in others if not one.lasting)))
            others = self._others(resident)  # they may have come or gone while it was planned
            room = rooms(budgets, others)
            forced = plan.terms.forced or resident.forced
            if not keeps_to(plan.needs, conceded.limits) and not forced:
                raise self._refusal(resident, plan)
            needs, keys = _who_goes(plan.needs, room, others, forced=forced)
            if keys is None:
                in_the_way = to_drain(needs, room, others, _now_s())
                if in_the_way is None:
                    refuse_beside_lasting(resident.model.name, others)
                    context = f" with a context of {plan.context_tokens} tokens"
                    hint = ", or ".join((*plan.ways, *_SMALLER))
                    raise does_not_fit(resident.model.name, plan.needs, most, context, hint=hint)
                stay_s = [one.stays_until_s for one in others if one.idle and one.stays_until_s > _now_s()]
                return _Blocked(in_the_way, min(stay_s, default=math.inf))
            if not keys:
                given_up = conceded.note_plan(plan)
                if given_up is not None:
                    before, text = given_up
                    sizes = {"before_bytes": before.total_bytes, "after_bytes": plan.total_bytes}
                    self._steps.note("less", resident.key, f"it is loaded with {text}", **sizes)
                resident.plan, resident.degraded = plan, tuple(conceded.steps)
                return plan
            log.info("ending the idle engine of %s to make room for %s", keys[0], resident.key)
            self._evicted_s.append(_now_s())
            await self._ledger.end_idle(keys[0])

    def _others(self, resident: Resident) -> tuple[Holding, ...]:
        """What others hold; engines that were loaded only just now may go, unless there have been many changes."""
        others = self._ledger.holdings(but=resident)
        many = len(self._evicted_s) == FREE_EVICTIONS and _now_s() - self._evicted_s[0] < FREE_WITHIN_S
        return others if many else at_once(others)

    async def _plan(self, resident: Resident, room: Mapping[str, int], later: Mapping[str, int]) -> LoadPlan:
        """A plan for the room that is there, else for the one that is there ``later``; DoesNotFit."""
        conceded = self._conceded.get(resident.key) or Concessions()
        try:
            return await self._ask(resident, within(room, conceded.limits))
        except DoesNotFit:
            if room == later:
                raise
            return await self._ask(resident, within(later, conceded.limits))

    async def _ask(self, resident: Resident, room: Mapping[str, int]) -> LoadPlan:
        return await self._planner.plan_load(resident.model, room, resident.role, resident.asked)

    async def _wait(self, resident: Resident, blocked: _Blocked, changed: asyncio.Event, waited_s: float) -> None:
        """Wait until something has ``changed``; engines in the way are drained when patience is at its end."""
        settings = self._settings
        if waited_s >= settings.wait_s:
            raise Busy(
                f"{resident.model.name} waited {waited_s:.0f} s for memory that {' and '.join(blocked.by)} use",
                retry_after_s=within_bounds(self._ledger.frees_s(blocked.by)),
                hint="stop one of them (lilliput ps), or try again later",
            )
        if waited_s >= settings.patience_s:
            for key in blocked.by:
                self._ledger.drain(key)
        bound_s = settings.patience_s if waited_s < settings.patience_s else settings.wait_s
        more_s = min(bound_s - waited_s, blocked.until_s - _now_s())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(more_s, 0.001)):  # wait_for may lose that the load was cancelled
                await changed.wait()


@dataclass(frozen=True, slots=True)
class _Blocked:
    """Engines that must go for a load, but are busy, loading, or were loaded only just now: ``until_s`` the first of
    these may go.
    """

    by: tuple[str, ...]
    until_s: float


def _who_goes(
    needs: Mapping[str, MemoryNeed], room: Mapping[str, int], others: Sequence[Holding], *, forced: bool
) -> tuple[Mapping[str, MemoryNeed], tuple[str, ...] | None]:
    """What there must be room for, and the idle engines that go for it; None where that is not enough."""
    keys = evictions(needs, room, others, _now_s())
    if keys is not None or not forced:
        return needs, keys
    idle = idle_ones(others, _now_s())  # not room enough, but all that there can be
    return (needs, idle) if idle else ({}, evictions({}, room, others, _now_s()))  # it need not fit, but rivals must go


def _now_s() -> float:
    return asyncio.get_running_loop().time()
