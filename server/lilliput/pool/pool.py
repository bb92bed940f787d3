"""The engines that live: one load per model however many ask, reuse, keep-alive, eviction, restart after a crash."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import psutil

from lilliput.catalogue import InstalledModel
from lilliput.engine import PROVING_TOKENS, Engine, Rung, Start, Verdicts, climb_down, verdict_key
from lilliput.errors import Busy, Cancelled, DoesNotFit, EngineDied, ShuttingDown
from lilliput.fit import Budget
from lilliput.llama import ContextSettings, ModelSettings
from lilliput.pool.loading import LoadPlan, plan_load
from lilliput.pool.policy import Holding, evictions, room_bytes
from lilliput.pool.resident import EngineInfo, Loaded, Resident
from lilliput.units import format_bytes

log = logging.getLogger(__name__)

IDLE_SEQUENCES = 24
"""KV sequences beyond the slots, kept for their prefixes."""
BUSY_RETRY_S = 2.0


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """``keep_alive_s`` below 0 keeps idle engines for ever; ``queue_limit`` bounds the requests waiting at one
    engine.
    """

    context_tokens: int
    slots: int
    keep_alive_s: float
    queue_limit: int
    threads: int
    machine: str
    build: str


class Lease:
    """The right to use a model's engine until ``release``; holding it keeps the engine from being evicted."""

    def __init__(self, loaded: Loaded, resident: Resident, release: Callable[[], None], waited_s: float) -> None:
        self.engine = loaded.engine
        self.ready = loaded.ready
        self.model = resident.model
        self.waited_s = waited_s
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """Give the engine back; a second call does nothing."""
        if self._release is not None:
            release, self._release = self._release, None
            release()


class Pool:
    """Owner of all engines, in one event loop. ``budget`` measures the machine each time it is called."""

    def __init__(self, settings: PoolSettings, budget: Callable[[], Budget], verdicts: Verdicts) -> None:
        self._settings = settings
        self._budget = budget
        self._verdicts = verdicts
        self._residents: dict[str, Resident] = {}
        self._closing = False

    async def lease(self, model: InstalledModel, *, sequences: int = 1, force: bool = False) -> Lease:
        """The engine of a model, loaded when it is not, for ``sequences`` of one request.

        ``force`` loads even what does not fit. Raises DoesNotFit, EngineLoadFailed, EngineDied, BadFile, Busy,
        Cancelled (somebody stopped the load) or ShuttingDown.
        """
        if self._closing:
            raise ShuttingDown("the daemon is stopping", hint="try again when it is back")
        began = time.monotonic()
        resident = self._resident(model, force=force)
        self._refuse_when_full(resident, sequences)
        resident.users += 1
        resident.sequences += sequences
        release = partial(self._release, resident, sequences)
        assert resident.loading is not None
        try:
            loaded = await asyncio.shield(resident.loading)
        except asyncio.CancelledError:
            release()
            task = asyncio.current_task()
            if resident.loading.cancelled() and not (task and task.cancelling()):
                raise Cancelled(f"the load of {model.name} was stopped", hint="ask again to load it") from None
            if resident.users == 0 and not resident.loading.done():
                resident.stopping = True  # at once: a newcomer must not join a load that is about to end
                resident.loading.cancel()
            raise
        except BaseException:
            release()
            raise
        return Lease(loaded, resident, release, time.monotonic() - began)

    def list(self) -> tuple[EngineInfo, ...]:
        """All engines, loading ones too."""
        return tuple(_describe(resident) for resident in self._residents.values())

    def find(self, name: str) -> EngineInfo | None:
        """The engine of a model by its canonical name."""
        resident = self._residents.get(name)
        return _describe(resident) if resident else None

    async def unload(self, name: str) -> bool:
        """End a model's engine, busy or not; False when there is none."""
        resident = self._residents.get(name)
        if resident is None:
            return False
        await self._end(resident)
        return True

    async def aclose(self) -> None:
        """End all engines and take no new work."""
        self._closing = True
        await asyncio.gather(*(self._end(resident) for resident in tuple(self._residents.values())))

    def _resident(self, model: InstalledModel, *, force: bool) -> Resident:
        resident = self._residents.get(model.name)
        if resident is None or resident.broken or resident.stopping:
            former = resident if resident is not None and resident.stopping else None
            resident = self._residents[model.name] = Resident(model, slots=self._settings.slots)
            work = self._load(resident, former, force=force)
            resident.loading = asyncio.create_task(work, name=f"load {model.name}")
            resident.loading.add_done_callback(lambda task: self._on_loaded(resident, task))
        return resident

    def _refuse_when_full(self, resident: Resident, sequences: int) -> None:
        """Busy when sequences would wait beyond the limit; a request that has the engine to itself may be larger."""
        waiting = resident.sequences + sequences - self._settings.slots
        if resident.sequences and waiting > self._settings.queue_limit:
            raise Busy(
                f"{max(0, resident.sequences - self._settings.slots)} sequences already wait for {resident.model.name}",
                retry_after_s=BUSY_RETRY_S,
                hint="try again a little later",
            )

    async def _load(self, resident: Resident, former: Resident | None, *, force: bool) -> Loaded:
        settings = self._settings
        if former is not None:
            await former.gone.wait()  # its memory is free only then
        plan = await plan_load(resident.model, context_tokens=settings.context_tokens, slots=settings.slots)
        await self._make_room(resident, plan, force=force)
        began = time.monotonic()

        async def attempt(rung: Rung, proven: bool) -> Loaded:
            resident.engine = Engine(_start_message(resident.model, plan, settings, rung, proven=proven))
            ready = await resident.engine.start()
            return Loaded(resident.engine, ready, rung, time.monotonic() - began)

        def on_crash(rung: Rung, error: EngineDied) -> None:
            log.warning("%s crashed with %s settings, trying safer ones: %s", resident.model.name, rung.name, error)

        key = verdict_key(settings.machine, settings.build, plan.tensor_types)
        loaded, _ = await climb_down(attempt, key, self._verdicts, on_crash)
        return loaded

    async def _make_room(self, resident: Resident, plan: LoadPlan, *, force: bool) -> None:
        """End idle engines until the plan fits, then reserve its memory in the ledger; DoesNotFit when nothing helps.

        After each end all is looked at anew: engines may have come into use, or gone, in the meantime.
        """
        while True:
            budget = await asyncio.to_thread(self._budget)
            others = [_holding(one) for one in self._residents.values() if one is not resident and one.need is not None]
            room = room_bytes(budget, others)
            names = evictions(plan.need.total_bytes, room, others)
            if names is None and not force:
                raise _does_not_fit(resident.model, plan, max(room, 0))
            if not names:
                resident.need = plan.need
                return
            log.info("ending the idle engine of %s to make room for %s", names[0], resident.model.name)
            await self._end(self._residents[names[0]])

    def _on_loaded(self, resident: Resident, task: asyncio.Task[Loaded]) -> None:
        if task.cancelled() or task.exception() is not None:
            self._forget(resident)
            return
        resident.loaded = task.result()
        resident.loaded_at = resident.last_used_at = time.time()
        resident.loaded.engine.died.add_done_callback(lambda died: self._on_died(resident, died.result()))
        log.info("%s is loaded in %.1f s", resident.model.name, resident.loaded.load_s)
        self._expect_expiry(resident)

    def _on_died(self, resident: Resident, error: EngineDied) -> None:
        if not resident.stopping:
            log.error("%s %s", error.message, " | ".join(error.log_tail[-5:]))
        self._forget(resident)

    def _forget(self, resident: Resident) -> None:
        if resident.expiry is not None:
            resident.expiry.cancel()
        if self._residents.get(resident.model.name) is resident:
            del self._residents[resident.model.name]
        resident.gone.set()

    def _release(self, resident: Resident, sequences: int) -> None:
        resident.users -= 1
        resident.sequences -= sequences
        resident.last_used_at = time.time()
        self._expect_expiry(resident)

    def _expect_expiry(self, resident: Resident) -> None:
        """Start the keep-alive time over."""
        if resident.expiry is not None:
            resident.expiry.cancel()
            resident.expiry = None
        if resident.users == 0 and self._settings.keep_alive_s >= 0 and not resident.broken:
            loop = asyncio.get_running_loop()
            resident.expiry = loop.call_later(self._settings.keep_alive_s, self._expire, resident)

    def _expire(self, resident: Resident) -> None:
        if resident.users == 0 and resident.loaded is not None and not resident.stopping:
            log.info("%s was idle for %.0f s, ending its engine", resident.model.name, self._settings.keep_alive_s)
            resident.stopping = True  # at once: a request that comes now starts a new engine
            resident.ending = asyncio.create_task(self._end(resident))

    async def _end(self, resident: Resident) -> None:
        resident.stopping = True
        assert resident.loading is not None
        if not resident.loading.done():
            resident.loading.cancel()
            await asyncio.wait([resident.loading])
        elif resident.loaded is not None:
            await resident.loaded.engine.aclose()
        self._forget(resident)


def _does_not_fit(model: InstalledModel, plan: LoadPlan, room: int) -> DoesNotFit:
    return DoesNotFit(
        f"{model.name} needs {format_bytes(plan.need.total_bytes)} with a context of {plan.context_tokens} tokens; "
        f"{format_bytes(room)} can be used",
        need_bytes=plan.need.total_bytes,
        budget_bytes=room,
        hint="stop other models, lower the context, or pull a smaller variant",
    )


def _start_message(model: InstalledModel, plan: LoadPlan, settings: PoolSettings, rung: Rung, *, proven: bool) -> Start:
    return Start(
        ModelSettings(str(model.path), extra_buffers=rung.extra_buffers),
        ContextSettings(
            context_tokens=plan.context_tokens,
            max_sequences=plan.slots + IDLE_SEQUENCES,
            threads=settings.threads,
        ),
        plan.slots,
        1 if proven else PROVING_TOKENS,
    )


def _holding(resident: Resident) -> Holding:
    assert resident.need is not None
    idle = resident.users == 0 and resident.loaded is not None and not resident.stopping
    return Holding(resident.model.name, resident.need, idle, resident.last_used_at)


def _describe(resident: Resident) -> EngineInfo:
    engine, loaded = resident.engine, resident.loaded
    load = engine.load if engine else None
    return EngineInfo(
        model=resident.model.name,
        state=resident.state,
        pid=engine.pid if engine else None,
        context_tokens=loaded.ready.context_tokens if loaded else None,
        slots=resident.slots,
        active=load.active if load else 0,
        waiting=load.waiting if load else 0,
        cached_tokens=load.cached_tokens if load else 0,
        memory_bytes=_resident_set(engine.pid) if engine and engine.pid else None,
        progress=engine.progress if engine else 0.0,
        settings={"backend": loaded.rung.name} if loaded else {},
        loaded_at=resident.loaded_at,
        last_used_at=resident.last_used_at,
        load_s=loaded.load_s if loaded else None,
    )


def _resident_set(pid: int) -> int | None:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None
