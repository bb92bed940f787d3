"""Loads: room is made, an engine is started, and where memory turns out to be short, it is tried with less."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Protocol

from lilliput.engine import SpareWorker, Verdicts
from lilliput.errors import EngineDied, EngineError, EngineLoadFailed
from lilliput.fit import Budget, MemoryNeed
from lilliput.hardware import oom_kills
from lilliput.pool.ladder import Concessions, keeps_to, memory_is_to_blame, within
from lilliput.pool.loading import LoadPlan, LoadPlanner
from lilliput.pool.policy import Holding, evictions, freed, rooms
from lilliput.pool.refusals import does_not_fit
from lilliput.pool.resident import Loaded, Resident
from lilliput.pool.settings import PoolSettings
from lilliput.pool.starting import start_engine

log = logging.getLogger(__name__)

_SMALLER = ("stop other models", "lower the context", "pull a smaller variant", "force it")


class Ledger(Protocol):
    """What others hold, and how idle ones among them are ended."""

    def holdings(self, *, but: Resident | None = None) -> tuple[Holding, ...]:
        """What every engine holds, but this one's, and what is reserved."""
        ...

    async def end_idle(self, key: str) -> None:
        """End an idle engine; nothing where it has gone."""
        ...


class Loader:
    """Loads models for the pool, which owns the residents. ``make_way`` is awaited before a load."""

    def __init__(
        self,
        settings: PoolSettings,
        budgets: Callable[[], Awaitable[Mapping[str, Budget]]],
        planner: LoadPlanner,
        verdicts: Verdicts,
        ledger: Ledger,
        make_way: Callable[[], Awaitable[None]] | None,
    ) -> None:
        self._settings = settings
        self._budgets = budgets
        self._planner = planner
        self._verdicts = verdicts
        self._ledger = ledger
        self._make_way = make_way
        self._conceded: dict[str, Concessions] = {}

    async def load(self, resident: Resident) -> Loaded:
        """The engine of ``resident``, whose plan and engine are set on the way.

        Raises DoesNotFit, EngineLoadFailed, EngineDied, BadFile, InvalidRequest.
        """
        if self._make_way is not None:
            await self._make_way()
        spare = SpareWorker()
        spare.prepare()
        try:
            while True:
                plan = await self._make_room(resident)
                resident.oom_kills = await asyncio.to_thread(oom_kills)
                try:
                    on_engine = partial(setattr, resident, "engine")
                    return await start_engine(resident.model, plan, self._settings, self._verdicts, spare, on_engine)
                except (EngineDied, EngineLoadFailed) as error:
                    if not await self.concede(resident, error):
                        raise
                    resident.plan = None  # it holds nothing while the next one is made
                    spare.prepare()
        finally:
            await spare.aclose()

    async def concede(self, resident: Resident, error: EngineError) -> bool:
        """Whether an engine failed for want of memory, and the model may be loaded in less of it next time."""
        kills, before = await asyncio.to_thread(oom_kills), resident.oom_kills
        killed = kills is not None and before is not None and kills > before
        if resident.plan is None or resident.forced or not memory_is_to_blame(error, oom_killed=killed):
            return False
        return self._conceded.setdefault(resident.key, Concessions()).note_failure(resident.plan, error)

    def forget(self, key: str) -> None:
        """Let the next load of this engine take all that it would like to."""
        self._conceded.pop(key, None)

    async def could_have_more(self, resident: Resident) -> bool:
        """Whether a degraded engine would fit now as it was planned before anything was given up."""
        conceded = self._conceded.get(resident.key)
        if conceded is None or conceded.wanted is None:
            return False
        room = rooms(await self._budgets(), self._ledger.holdings(but=resident))
        return all(need.total_bytes <= room.get(name, 0) for name, need in conceded.wanted.needs.items())

    async def reserve(self, key: str, needs: Mapping[str, MemoryNeed], *, evict: bool) -> None:
        """See that there is room for work beside the engines, ending idle ones with ``evict``; DoesNotFit."""
        while True:
            budgets, others = await self._budgets(), self._ledger.holdings()
            room = rooms(budgets, others)
            keys = evictions(needs, room, others if evict else (), time.monotonic())
            if keys is None:
                raise does_not_fit(key, needs, room, "", hint="stop other models: lilliput ps shows them")
            if not keys:
                return
            log.info("ending the idle engine of %s to make room for %s", keys[0], key)
            await self._ledger.end_idle(keys[0])

    async def _make_room(self, resident: Resident) -> LoadPlan:
        """End idle engines until the model fits, then reserve its memory in the ledger; DoesNotFit when nothing helps.

        The plan is made for what is there when all idle engines have gone, and for less where that has failed before.
        After each end all is looked at anew: engines may have come into use, or gone, in the meantime.
        """
        conceded = self._conceded.get(resident.key) or Concessions()
        while True:
            others = self._ledger.holdings(but=resident)
            room = rooms(await self._budgets(), others)
            most = freed(room, (one for one in others if one.idle))
            least = within(most, conceded.limits)
            plan = await self._planner.plan_load(resident.model, least, resident.role, resident.asked)
            forced = plan.terms.forced or resident.forced
            if not keeps_to(plan.needs, conceded.limits) and not forced:
                raise conceded.refusal(resident.model.name, plan)
            keys = evictions(plan.needs, room, others, time.monotonic())
            if keys is None and not forced:
                context = f" with a context of {plan.context_tokens} tokens"
                hint = ", or ".join((*plan.ways, *_SMALLER))
                raise does_not_fit(resident.model.name, plan.needs, most, context, hint=hint)
            if not keys:
                step = conceded.note_plan(plan)
                if step is not None:
                    log.warning("%s is loaded with %s", resident.key, step)
                resident.plan, resident.degraded = plan, tuple(conceded.steps)
                return plan
            log.info("ending the idle engine of %s to make room for %s", keys[0], resident.key)
            await self._ledger.end_idle(keys[0])
