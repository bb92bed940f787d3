"""One model in memory: from the wish to load it until its engine is gone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal

from lilliput.catalogue import InstalledModel
from lilliput.engine import Engine, EngineStats, Ready, Role
from lilliput.llama import Rung
from lilliput.pool.loading import LoadPlan

EngineState = Literal["loading", "ready", "stopping"]


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


@dataclass(slots=True, eq=False)
class Resident:
    """Owned by the pool's event loop. ``users`` counts leases, also of those that wait for the load, ``sequences`` what
    they run in all. ``gone`` is set when its engine, if there was one, has ended.
    """

    model: InstalledModel
    role: Role = "generate"
    loading: asyncio.Task[Loaded] | None = None
    plan: LoadPlan | None = None
    engine: Engine | None = None
    loaded: Loaded | None = None
    users: int = 0
    sequences: int = 0
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    slots: int = 0
    stopping: bool = False
    loaded_at: float | None = None
    last_used_at: float = 0.0
    expiry: asyncio.TimerHandle | None = None
    ending: asyncio.Task[None] | None = None

    @property
    def key(self) -> str:
        """What tells it from all others: the model's name, and its role where that is not to generate."""
        return self.model.name if self.role == "generate" else f"{self.model.name} ({self.role})"

    @property
    def state(self) -> EngineState:
        """Where it is in its life."""
        if self.stopping:
            return "stopping"
        return "ready" if self.loaded is not None else "loading"

    @property
    def broken(self) -> bool:
        """Whether its engine has died, or its load has failed."""
        if self.loaded is not None:
            return not self.loaded.engine.alive
        return self.loading is not None and self.loading.done()


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """An engine as shown to people; bytes are the resident set of its process, times are unix seconds."""

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
    stats: EngineStats | None = None
