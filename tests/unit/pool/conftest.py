from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest
from tests.support.model import smollm2_path

from lilliput.catalogue import InstalledFile, InstalledModel
from lilliput.fit import Budget
from lilliput.pool import Pool, PoolSettings
from lilliput.units import GIB

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


MakePool = Callable[..., Pool]


@pytest.fixture
async def make_pool() -> AsyncIterator[MakePool]:
    """Pools over real engines, ended after the test."""
    async with AsyncExitStack() as stack:

        def make(budget: Budget = PLENTY, *, keep_alive_s: float = -1, slots: int = 2, queue_limit: int = 4) -> Pool:
            settings = PoolSettings(
                context_tokens=256,
                slots=slots,
                keep_alive_s=keep_alive_s,
                queue_limit=queue_limit,
                threads=1,
                machine="m",
                build="b",
            )
            pool = Pool(settings, lambda: budget, Facts())
            stack.push_async_callback(pool.aclose)
            return pool

        yield make
