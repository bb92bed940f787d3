"""One model in memory: from the wish to load it until its engine is gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from lilliput.catalogue import InstalledModel
from lilliput.engine import Engine, EngineStats, Ready, Role
from lilliput.llama import Rope, Rung
from lilliput.pool.admission import Places, load_left_s
from lilliput.pool.loading import LoadPlan
from lilliput.pool.settings import PoolSettings
from lilliput.pool.terms import NO_DRAFT, Terms

EngineState = Literal["loading", "ready", "draining", "stopping", "failed"]
DEFAULT_UBATCH = 512


@dataclass(frozen=True, slots=True)
class Loaded:
    """An engine that is ready, with what it told about its model and the settings that held."""

    engine: Engine
    ready: Ready
    rung: Rung
    load_s: float


@dataclass(frozen=True, slots=True)
class LoadReport:
    """A load that has just ended well: what was planned and what it became."""

    model: InstalledModel
    plan: LoadPlan
    loaded: Loaded


@dataclass(frozen=True, slots=True)
class UseReport:
    """An engine and its plan; ``filled`` when a pass had a whole micro-batch, the most that scratch is made for.

    ``stored_bytes`` are what it keeps of prefixes beside its cache.
    """

    model: InstalledModel
    plan: LoadPlan
    loaded: Loaded
    filled: bool
    stored_bytes: int


def key_of(name: str, role: Role) -> str:
    """What tells an engine from all others: the model's name, and its role where that is not to generate."""
    return name if role == "generate" else f"{name} ({role})"


@dataclass(slots=True, eq=False)
class Resident:
    """Owned by the pool's event loop. ``users`` counts leases, also of those that wait for the load, ``places`` knows
    who holds how many sequences; ``may_end`` is set while there are none. ``asked`` are the terms it is loaded on, None
    for those of before; ``forced``: even if it does not fit. ``keep_alive_s`` None is the pool's; ``asked_s``,
    ``loaded_s`` and ``last_used_s`` are monotonic. ``degraded`` says what was given up because engines failed;
    ``oom_kills`` is what the system counted before the load. ``unwanted``: somebody has unloaded it. ``gone`` is set
    when its engine, if there was one, has ended; ``telling`` tells how it was used.
    """

    model: InstalledModel
    role: Role = "generate"
    asked: Terms | None = None
    forced: bool = False
    loading: asyncio.Task[Loaded] | None = None
    plan: LoadPlan | None = None
    engine: Engine | None = None
    loaded: Loaded | None = None
    users: int = 0
    places: Places = field(default_factory=Places)
    asked_s: float = 0.0
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    slots: int = 0
    stopping: bool = False
    unwanted: bool = False
    degraded: tuple[str, ...] = ()
    oom_kills: int | None = None
    loaded_at: float | None = None
    loaded_s: float = 0.0
    last_used_at: float = 0.0
    last_used_s: float = 0.0
    keep_alive_s: float | None = None
    may_end: asyncio.Event = field(default_factory=asyncio.Event)
    expiry: asyncio.TimerHandle | None = None
    expires_at: float | None = None
    ending: asyncio.Task[None] | None = None
    climbing: asyncio.Task[None] | None = None
    telling: asyncio.Task[None] | None = None

    @property
    def key(self) -> str:
        """What tells it from all others."""
        return key_of(self.model.name, self.role)

    def use(self) -> UseReport | None:
        """What its engine has done so far; None when it is not ready, or has ended."""
        if self.loaded is None or self.plan is None or not self.loaded.engine.alive:
            return None
        stats = self.loaded.engine.stats()
        totals = {"widest_tokens": 0, "store_bytes": 0} if stats is None else stats.totals
        filled = totals["widest_tokens"] >= self.plan.ubatch_tokens
        return UseReport(self.model, self.plan, self.loaded, filled, totals["store_bytes"])

    @property
    def state(self) -> EngineState:
        """Where it is in its life."""
        if self.stopping:
            return "draining" if self.users else "stopping"
        return "ready" if self.loaded is not None else "loading"

    def refuse_when_full(self, caller: str, sequences: int, settings: PoolSettings, now_s: float) -> None:
        """Raise Busy or TooManyRequests where ``caller`` may not have so many more sequences here."""
        self.places.refuse_when_full(
            self.model.name,
            caller,
            sequences,
            slots=settings.slots if self.plan is None else self.plan.running,
            queue_limit=settings.queue_limit,
            caller_limit=settings.caller_limit,
            now_s=now_s,
            loads_s=self.load_left_s(now_s),
        )

    def expect_expiry(self, kept_s: float, expire: Callable[[Resident], None], *, pinned: bool) -> None:
        """Start its keep-alive time over: its own, or else ``kept_s``, below 0 for ever; ``expire`` is called then."""
        if self.expiry is not None:
            self.expiry.cancel()
            self.expiry = self.expires_at = None
        kept_s = kept_s if self.keep_alive_s is None else self.keep_alive_s
        ready = self.loaded is not None and not self.broken and not self.users
        if ready and kept_s >= 0 and not pinned:
            self.expires_at = time.time() + kept_s
            self.expiry = asyncio.get_running_loop().call_later(kept_s, expire, self)

    def load_left_s(self, now_s: float) -> float:
        """How long its load will still take, as far as can be told."""
        if self.loaded is not None:
            return 0.0
        return load_left_s(now_s - self.asked_s, self.engine.progress if self.engine else 0.0)

    @property
    def broken(self) -> bool:
        """Whether its engine has died, or its load has failed."""
        if self.loaded is not None:
            return not self.loaded.engine.alive
        done = self.loading
        return done is not None and done.done() and (done.cancelled() or done.exception() is not None)


class Lease:
    """The right to use a model's engine until ``release``; holding it keeps the engine from being evicted.

    ``plan`` is how the engine was loaded, ``degraded`` what was given up for that because engines had failed.
    """

    def __init__(
        self,
        loaded: Loaded,
        resident: Resident,
        release: Callable[[], None],
        waited_s: float,
        alone: Callable[[], bool],
    ) -> None:
        assert resident.plan is not None
        self.engine = loaded.engine
        self.ready = loaded.ready
        self.model = resident.model
        self.plan = resident.plan
        self.waited_s = waited_s
        self.degraded = resident.degraded
        self._release: Callable[[], None] | None = release
        self._alone = alone

    @property
    def alone(self) -> bool:
        """Whether nobody else has used or loaded any engine, or measured, since this one was leased."""
        return self._alone()

    def release(self) -> None:
        """Give the engine back; a second call does nothing."""
        if self._release is not None:
            release, self._release = self._release, None
            release()


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """An engine as shown to people; bytes are the resident set of its process, times are unix seconds.

    It ends at ``expires_at`` if nobody uses it before; None while it is in use, or for ever. ``by_caller`` are the
    sequences that each caller has there, the most first. One that failed says why in ``error``, and in ``log_tail``
    what it said last.
    """

    model: str
    role: Role
    quantization: str | None
    state: EngineState
    pid: int | None
    context_tokens: int | None
    slots: int
    active: int
    waiting: int
    cached_tokens: int
    memory_bytes: int | None
    progress: float
    settings: dict[str, str]
    loaded_at: float | None
    last_used_at: float
    load_s: float | None
    pinned: bool = False
    expires_at: float | None = None
    degraded: tuple[str, ...] = ()
    by_caller: tuple[int, ...] = ()
    error: str | None = None
    log_tail: tuple[str, ...] = ()
    failed_at: float | None = None
    stats: EngineStats | None = None


def shown_settings(loaded: Loaded, plan: LoadPlan) -> dict[str, str]:
    """How an engine was loaded, as shown to people: only what differs from the usual, beside backend and KV type."""
    shown = {"backend": loaded.rung, "kv_type": plan.kv_type}
    shown |= {"gpu_layers": str(plan.gpu_layers)} if plan.gpu_layers else {}
    shown |= shown_rope(plan.rope)
    shown |= shown_draft(plan)
    flash = plan.flash_attention
    shown |= {} if flash is None else {"flash_attention": "on" if flash else "off"}
    shown |= {"threads": str(plan.threads)} if plan.threads else {}
    shown |= {"batch_threads": str(plan.batch_threads)} if plan.batch_threads else {}
    shown |= {"width": str(plan.width)} if plan.width else {}
    shown |= {} if plan.repack else {"repack": "off"}
    shown |= {} if plan.memory_map else {"memory_map": "off"}
    shown |= {"memory_lock": "on"} if plan.memory_lock else {}
    return shown | ({"ubatch_tokens": str(plan.ubatch_tokens)} if plan.ubatch_tokens != DEFAULT_UBATCH else {})


def shown_draft(plan: LoadPlan) -> dict[str, str]:
    """The draft model, and what is to be said of it."""
    shown = {"draft": plan.draft.model} if plan.draft else {"draft": NO_DRAFT} if plan.draft_note else {}
    return shown | ({"draft_note": plan.draft_note} if plan.draft_note else {})


def shown_rope(rope: Rope | None) -> dict[str, str]:
    """Rope settings in place of the file's, by the names they are asked for with."""
    if rope is None:
        return {}
    values = {
        "rope_scaling": rope.scaling,
        "rope_freq_base": None if rope.freq_base is None else f"{rope.freq_base:g}",
        "rope_freq_scale": None if rope.freq_scale is None else f"{rope.freq_scale:g}",
        "yarn_orig_ctx": None if rope.original_tokens is None else str(rope.original_tokens),
    }
    return {name: value for name, value in values.items() if value is not None}
