"""The engines that live: one load per model however many ask, reuse, keep-alive, eviction, restart after a crash."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping
from functools import partial
from typing import Any, get_args

from lilliput.catalogue import InstalledModel
from lilliput.engine import Role, Verdicts
from lilliput.errors import Busy, Cancelled, EngineDied, LilliputError, ShuttingDown
from lilliput.fit import Budget, MemoryNeed
from lilliput.pool.breaker import Breaker
from lilliput.pool.description import describe, holding_of
from lilliput.pool.failures import Failures
from lilliput.pool.loader import Loader
from lilliput.pool.loading import LoadPlanner
from lilliput.pool.policy import Holding, are_rivals
from lilliput.pool.relief import Relief
from lilliput.pool.resident import EngineInfo, Lease, Loaded, LoadReport, Resident, UseReport, key_of
from lilliput.pool.settings import PoolSettings
from lilliput.pool.starting import EngineStarter, Starter
from lilliput.pool.steps import Steps
from lilliput.pool.terms import OPEN_TERMS, Terms

log = logging.getLogger(__name__)

BUSY_RETRY_S = 2.0


class Pool:
    """Owner of all engines, in one event loop; one for each role of a model that is asked for.

    ``budgets`` measures each device whenever it is called. ``on_loaded`` hears of each load; ``on_used`` once of each
    engine: when it has computed its first whole micro-batch, or else before it ends. ``make_way`` is awaited before a
    load: what gives way to engines has ended then. ``starters`` makes what starts engines. ``relief`` gives memory back
    while they serve, ``steps`` are what was given up.
    """

    def __init__(
        self,
        settings: PoolSettings,
        budgets: Callable[[], Awaitable[Mapping[str, Budget]]],
        planner: LoadPlanner,
        verdicts: Verdicts,
        on_loaded: Callable[[LoadReport], None] | None = None,
        on_used: Callable[[UseReport], Coroutine[Any, Any, None]] | None = None,
        make_way: Callable[[], Awaitable[None]] | None = None,
        starters: Callable[[], Starter] | None = None,
    ) -> None:
        self._settings = settings
        starters = starters or partial(EngineStarter, settings, verdicts)
        self.steps = Steps()
        self._loader = Loader(settings, budgets, planner, self, starters, make_way, self.steps)
        self.relief = Relief(self, self._all, lambda name: name in self._pinned, self._loader, self.steps)
        self._on_report = on_loaded
        self._on_used = on_used
        self._reserved: dict[str, Holding] = {}
        self._residents: dict[tuple[str, Role], Resident] = {}
        self._leaving: list[Resident] = []
        self._pinned: frozenset[str] = frozenset()
        self._breaker = Breaker()
        self._failures = Failures()
        self._changed = asyncio.Event()
        self._closing = False
        self._asked = 0

    async def lease(
        self,
        model: InstalledModel,
        *,
        sequences: int = 1,
        role: Role = "generate",
        asked: Terms | None = None,
        keep_alive_s: float | None = None,
        caller: str = "",
    ) -> Lease:
        """The engine of a model for this role, loaded when it is not, for ``sequences`` of one request of ``caller``.

        Terms that are ``asked`` go before those of earlier: an idle engine that was loaded on others is loaded anew.
        ``keep_alive_s`` holds for this engine from now on (negative: for ever), in place of the pool's setting.
        Raises DoesNotFit, EngineLoadFailed, EngineDied, BadFile, Busy (also where an engine on other terms is in use),
        TooManyRequests, InvalidRequest (the model cannot do this), Cancelled (somebody stopped the load) or
        ShuttingDown.
        """
        if self._closing:
            raise ShuttingDown("the daemon is stopping", hint="try again when it is back")
        began = _now_s()
        self._asked += 1
        resident = self._resident(model, role, asked)
        resident.refuse_when_full(caller, sequences, self._settings, began)
        if keep_alive_s is not None:
            resident.keep_alive_s = keep_alive_s
        resident.users += 1
        resident.may_end.clear()
        resident.places.take(caller, sequences)
        release = partial(self._release, resident, caller, sequences)
        assert resident.loading is not None
        try:
            loaded = await asyncio.shield(resident.loading)
        except asyncio.CancelledError:
            release()
            task = asyncio.current_task()
            if resident.loading.cancelled() and not (task and task.cancelling()):
                raise Cancelled(f"the load of {model.name} was stopped", hint="ask again to load it") from None
            if resident.users == 0 and not resident.loading.done():
                self._end(resident)  # at once: a newcomer must not join a load that is about to end
            raise
        except BaseException:
            release()
            raise
        resident.places.turnover.begin(_now_s())
        return Lease(loaded, resident, release, _now_s() - began, self._solitude(resident))

    def _solitude(self, resident: Resident) -> Callable[[], bool]:
        """Tells whether the one user of ``resident`` has been the only one of all engines from now on."""
        others = sum(one.users for one in self._residents.values()) - 1 + len(self._reserved)
        loading = any(one.loaded is None for one in self._residents.values() if one is not resident)
        asked = self._asked
        return lambda: not others and not loading and self._asked == asked

    def list(self) -> tuple[EngineInfo, ...]:
        """All engines, loading ones too."""
        return tuple(self._describe(resident) for resident in self._all())

    def failed(self) -> tuple[EngineInfo, ...]:
        """Engines that failed of late and were not tried again since."""
        return self._failures.list(time.time())

    def holdings(self, *, but: Resident | None = None) -> tuple[Holding, ...]:
        """What every engine holds, loading ones included, except that of ``but``, and what is reserved; who cannot stay
        beside ``but`` is marked.
        """
        engines = (one for one in self._all() if one is not but and one.plan is not None)
        return (*map(partial(self._holding, but), engines), *self._reserved.values())

    def _holding(self, newcomer: Resident | None, resident: Resident) -> Holding:
        rival = newcomer is not None and are_rivals(self._settings.groups, newcomer.model.name, resident.model.name)
        return holding_of(resident, pinned=resident.model.name in self._pinned, rival=rival)

    def frees_s(self, keys: Collection[str]) -> float:
        """In how many seconds these engines are likely to be through with what they have now."""
        now_s = _now_s()
        engines = [one for one in self._all() if one.key in keys]
        return max((one.places.turnover.wait_s(one.places.total, now_s) for one in engines), default=0.0)

    @contextlib.asynccontextmanager
    async def reserve(self, key: str, needs: Mapping[str, MemoryNeed], *, evict: bool) -> AsyncIterator[None]:
        """Keep memory in the ledger for work beside the engines while the block lasts; DoesNotFit without room.

        With ``evict`` idle engines are ended for it, those of least worth first.
        """
        await self._loader.reserve(key, needs, evict=evict)
        self._asked += 1
        self._reserved[key] = Holding(key, needs, idle=False, last_used_s=0.0)
        try:
            yield
        finally:
            del self._reserved[key]
            self._tell_change()

    @property
    def computing(self) -> bool:
        """Whether some engine is loading or at work."""
        return any(one.users or one.loaded is None for one in self._residents.values())

    def find(self, name: str) -> EngineInfo | None:
        """An engine of a model by its canonical name."""
        resident = next(reversed(self._named(name)), None)
        return self._describe(resident) if resident else None

    def _describe(self, resident: Resident) -> EngineInfo:
        return describe(resident, pinned=resident.model.name in self._pinned)

    def forgive(self, name: str) -> None:
        """Forget that engines of a model failed: somebody wants it in any case."""
        for role in get_args(Role):
            key = key_of(name, role)
            self._breaker.forget(key)
            if (name, role) not in self._residents:  # one that lives climbs back by what it gave up
                self._loader.forget(key)

    def pin(self, names: Collection[str]) -> None:
        """Engines of just these models stay: they are neither evicted nor ended when their time is over."""
        changed, self._pinned = self._pinned ^ frozenset(names), frozenset(names)
        self._tell_change()
        for resident in self._residents.values():
            if resident.model.name in changed:
                self._expect_expiry(resident)

    async def unload(self, name: str, *, drain: bool = False) -> bool:
        """End a model's engines; False when there is none.

        Busy or not, unless they ``drain``: then what they answer comes to its end, and new requests load the model
        anew after that.
        """
        found = self._named(name)
        for resident in found:
            resident.unwanted = True
        await asyncio.gather(*(self._end(resident, drain=drain) for resident in found))
        return bool(found)

    async def aclose(self) -> None:
        """End all engines and take no new work."""
        self._closing = True
        await asyncio.gather(*(self._end(resident) for resident in self._all()))

    def _named(self, name: str) -> tuple[Resident, ...]:
        return tuple(one for one in self._all() if one.model.name == name)

    def _all(self) -> tuple[Resident, ...]:
        """Those that are asked for, and those that others have replaced but whose engines have not ended yet."""
        return (*self._leaving, *self._residents.values())

    def _resident(self, model: InstalledModel, role: Role, asked: Terms | None) -> Resident:
        resident = self._residents.get((model.name, role))
        if resident is not None and asked is not None and not (resident.broken or resident.stopping):
            self._keep_to(resident, asked)
        if resident is None or resident.broken or resident.stopping:
            self._breaker.refuse(key_of(model.name, role), _now_s())
            former = resident if resident is not None and resident.stopping else None
            if former is not None:
                self._leaving.append(former)
            resident = Resident(model, role=role, asked=asked, slots=self._settings.slots, asked_s=_now_s())
            self._residents[model.name, role] = resident
            self._failures.forget(resident.key)
            resident.loading = asyncio.create_task(self._load(resident, former), name=f"load {model.name}")
            resident.loading.add_done_callback(lambda task: self._on_loaded(resident, task))
        resident.forced = resident.forced or (asked is not None and asked.forced)
        return resident

    def _keep_to(self, resident: Resident, asked: Terms) -> None:
        """End an idle engine that was loaded on other terms; Busy when it is in use."""
        known = resident.asked if resident.plan is None else resident.plan.terms
        if asked.satisfied_by(known or OPEN_TERMS):
            return
        if resident.users:
            raise Busy(
                f"{resident.model.name} is in use, loaded on other terms than those asked for",
                retry_after_s=BUSY_RETRY_S,
                hint="wait until it is idle, or stop it first",
            )
        log.info("ending the idle engine of %s to load it on other terms", resident.key)
        self._end(resident)

    async def _load(self, resident: Resident, former: Resident | None) -> Loaded:
        if former is not None:
            await former.gone.wait()  # its memory is free only then
        return await self._loader.load(resident)

    def drain(self, key: str) -> None:
        """Give an engine no new requests and end it when its answers have ended; nothing where it has gone."""
        resident = next((one for one in self._residents.values() if one.key == key), None)
        if resident is not None and not resident.stopping:
            log.info("the engine of %s takes no new requests: others wait for its memory", key)
            self._end(resident, drain=True)

    @property
    def changed(self) -> asyncio.Event:
        """Is set as soon as some engine has become idle, or holds less; a new one then takes its place."""
        return self._changed

    def _tell_change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def end_idle(self, key: str) -> None:
        """End an idle engine; nothing where it has gone, or somebody has begun to use it."""
        found = next((one for one in self._residents.values() if one.key == key), None)
        if found is not None and not found.users:
            await self._end(found)

    def _on_loaded(self, resident: Resident, task: asyncio.Task[Loaded]) -> None:
        if task.cancelled() or (error := task.exception()) is not None:
            if not task.cancelled() and error is not None:
                self._failures.note(resident, error, time.time())
            self._forget(resident)
            return
        resident.loaded = task.result()
        resident.loaded_at = resident.last_used_at = time.time()
        resident.last_used_s = resident.loaded_s = _now_s()
        resident.loaded.engine.died.add_done_callback(lambda died: self._on_died(resident, died.result()))
        log.info("%s is loaded in %.1f s", resident.model.name, resident.loaded.load_s)
        self._expect_expiry(resident)
        if self._on_report is not None and resident.plan is not None:
            self._on_report(LoadReport(resident.model, resident.plan, resident.loaded))

    def _on_died(self, resident: Resident, error: EngineDied) -> None:
        if not resident.stopping:
            log.error("%s %s", error.message, " | ".join(error.log_tail[-5:]))
            self._failures.note(resident, error, time.time())
            now_s = _now_s()
            answered = resident.engine.answered if resident.engine else 0
            self._breaker.note_death(resident.key, now_s, lived_s=now_s - resident.loaded_s, answered=answered)
            if self._loader.concede(resident, error):
                log.warning("memory was short for %s: its next load takes less", resident.key)
        self._forget(resident)

    def _forget(self, resident: Resident) -> None:
        if resident.expiry is not None:
            resident.expiry.cancel()
        key = (resident.model.name, resident.role)
        if self._residents.get(key) is resident:
            del self._residents[key]
        if resident in self._leaving:
            self._leaving.remove(resident)
        resident.gone.set()
        self._tell_change()

    def _release(self, resident: Resident, caller: str, sequences: int) -> None:
        resident.users -= 1
        resident.places.give(caller, sequences)
        resident.last_used_at, resident.last_used_s = time.time(), _now_s()
        if resident.loaded is not None:
            resident.places.turnover.end(_now_s(), sequences, idle=not resident.users)
        if not resident.users:
            resident.may_end.set()
            self._tell_change()
            if resident.degraded:
                asyncio.get_running_loop().call_later(self._settings.climb_s, self._expect_climb, resident)
        self._expect_expiry(resident)
        self._tell_use(resident, ending=False)

    def _expect_climb(self, resident: Resident) -> None:
        unused_s = _now_s() - resident.last_used_s
        if not resident.users and not resident.stopping and unused_s >= self._settings.climb_s * 0.99:
            resident.climbing = asyncio.create_task(self.relief.climb(resident))

    async def load_anew(self, resident: Resident) -> None:
        """Load an engine again as soon as what it answers has ended, unless somebody unloads it in the meantime."""
        await self._end(resident, drain=True)
        if resident.unwanted:
            return
        with contextlib.suppress(LilliputError):
            (await self.lease(resident.model, role=resident.role, keep_alive_s=resident.keep_alive_s)).release()

    def _tell_use(self, resident: Resident, *, ending: bool) -> None:
        if self._on_used is None or resident.telling is not None:
            return
        report = resident.use()
        if report is not None and (ending or report.filled):
            resident.telling = asyncio.create_task(self._on_used(report))

    def _expect_expiry(self, resident: Resident) -> None:
        """Start the keep-alive time over."""
        pinned = resident.model.name in self._pinned
        resident.expect_expiry(self._settings.keep_alive_s, self._expire, pinned=pinned)

    def _expire(self, resident: Resident) -> None:
        if resident.users == 0 and resident.loaded is not None and not resident.stopping:
            log.info("%s was idle for its keep-alive time, ending its engine", resident.key)
            self._end(resident)

    def _end(self, resident: Resident, *, drain: bool = False) -> Awaitable[None]:
        """End an engine or its load, when nobody uses it any more if it is to ``drain``; no newcomer joins it from now
        on. Who waits for that may be cancelled, it ends all the same.
        """
        resident.stopping = True
        if not drain:
            resident.may_end.set()
        if resident.ending is None:
            resident.ending = asyncio.create_task(self._finish(resident))
        return asyncio.shield(resident.ending)

    async def _finish(self, resident: Resident) -> None:
        assert resident.loading is not None
        await resident.may_end.wait()
        if not resident.loading.done():
            resident.loading.cancel()
            await asyncio.wait([resident.loading])
        elif resident.loaded is not None:
            self._tell_use(resident, ending=True)
            if resident.telling is not None:
                await asyncio.wait([resident.telling])  # its process is looked at
            await resident.loaded.engine.aclose()
        self._forget(resident)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
