from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.support.model import smollm2_path
from tests.support.safe_rung import rungs_here

from lilliput.catalogue import InstalledFile, InstalledModel
from lilliput.engine import Role
from lilliput.fit import RAM, Budget, MemoryNeed
from lilliput.gguf import FileSource, read_header
from lilliput.pool import OPEN_TERMS, LoadPlan, LoadReport, Pool, PoolSettings, Terms, UseReport
from lilliput.units import GIB, MIB

PLENTY = Budget(64 * GIB, 64 * GIB, 0, 1.0)


@dataclass
class Facts:
    kept: dict[str, str] = field(default_factory=dict)

    def get_fact(self, key: str) -> str | None:
        return self.kept.get(key)

    def set_fact(self, key: str, value: str) -> None:
        self.kept[key] = value


def installed(name: str = "one") -> InstalledModel:
    """The real small model under a name."""
    path = smollm2_path()
    return InstalledModel(name, "file", (InstalledFile(path, path.stat().st_size),))


NEED = MemoryNeed(weights_bytes=94 * MIB, kv_bytes=6 * MIB, compute_bytes=97 * MIB, overhead_bytes=70 * MIB)
"""About what the small model needs with a context of 256."""


class Planner:
    """Plans every model alike, on the CPU, whatever the room; remembers the rooms it was told."""

    def __init__(
        self, needs: Mapping[str, MemoryNeed] | None = None, *, slots: int = 2, ubatch_tokens: int = 512
    ) -> None:
        self.needs = needs or {RAM: NEED}
        self.slots = slots
        self.agreed = OPEN_TERMS
        self.ubatch_tokens = ubatch_tokens
        self.rooms: list[Mapping[str, int]] = []

    async def plan_load(
        self, model: InstalledModel, room: Mapping[str, int], role: Role = "generate", asked: Terms | None = None
    ) -> LoadPlan:
        with FileSource(model.path) as source:
            read_header(source, name=str(model.path))
        self.rooms.append(dict(room))
        terms = self.agreed if asked is None else self.agreed.after(asked)
        return LoadPlan(
            256,
            self.slots,
            self.slots + 2,
            self.needs,
            frozenset({"Q4_1", "F32"}),
            role=role,
            ubatch_tokens=self.ubatch_tokens,
            terms=terms,
        )


MakePool = Callable[..., Pool]


@pytest.fixture
async def make_pool() -> AsyncIterator[MakePool]:
    """Pools over real engines, ended after the test."""
    async with AsyncExitStack() as stack:

        def make(
            budget: Budget = PLENTY,
            *,
            keep_alive_s: float = -1,
            slots: int = 2,
            queue_limit: int = 4,
            planner: Planner | None = None,
            on_loaded: Callable[[LoadReport], None] | None = None,
            on_used: Callable[[UseReport], Coroutine[Any, Any, None]] | None = None,
            climb_s: float = 60.0,
        ) -> Pool:
            settings = PoolSettings(
                slots=slots,
                keep_alive_s=keep_alive_s,
                queue_limit=queue_limit,
                threads=1,
                machine="m",
                build="b",
                rungs=rungs_here(),
                climb_s=climb_s,
            )

            async def budgets() -> Mapping[str, Budget]:
                return {RAM: budget}

            pool = Pool(settings, budgets, planner or Planner(slots=slots), Facts(), on_loaded, on_used)
            stack.push_async_callback(pool.aclose)
            return pool

        yield make
