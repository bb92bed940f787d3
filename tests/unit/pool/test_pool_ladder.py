"""Loads that fail for want of memory, and engines that die again and again: real engines of the small model."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import pytest
from tests.unit.pool.conftest import NEED, PLENTY, MakePool, Planner, installed

from lilliput.catalogue import InstalledModel
from lilliput.engine import Role
from lilliput.errors import Busy, DoesNotFit, EngineLoadFailed
from lilliput.fit import RAM, Budget, MemoryNeed
from lilliput.pool import EngineInfo, Holding, LoadPlan, Pool, PoolSettings, Terms
from lilliput.pool.breaker import FREE_DEATHS
from lilliput.pool.ladder import MOST_STEPS
from lilliput.pool.loader import Loader
from lilliput.pool.resident import Resident
from lilliput.pool.starting import Starter
from lilliput.pool.steps import Steps
from lilliput.units import GIB

HUGE = 1024 * GIB
PLENTIFUL = replace(PLENTY, total_bytes=2 * HUGE, available_bytes=2 * HUGE)
TOO_LONG = 40_000_000
"""Cells of context that take 880 GiB: no system grants that."""


SETTINGS = PoolSettings(slots=1, keep_alive_s=-1, queue_limit=1, threads=1, machine="m", build="b", rungs=("native",))


def no_starter() -> Starter:
    raise AssertionError("nothing is to be started")


class Optimist(Planner):
    """Plans a context for which no memory is there, as long as it is given the room; ``least`` is its smallest."""

    def __init__(self, least: int = 256) -> None:
        super().__init__()
        self.least = least
        self.sober = False

    async def plan_load(
        self, model: InstalledModel, room: Mapping[str, int], role: Role = "generate", asked: Terms | None = None
    ) -> LoadPlan:
        plan = await super().plan_load(model, room, role, asked)
        if self.sober:
            return plan
        wanted = replace(plan, context_tokens=TOO_LONG, needs={RAM: MemoryNeed(0, HUGE, 0, 0)})
        if room[RAM] >= HUGE:
            return wanted
        return plan if self.least == 256 else replace(wanted, context_tokens=self.least)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


def engine(pool: Pool) -> EngineInfo:
    (info,) = pool.list()
    return info


async def test_a_load_that_found_no_memory_is_tried_with_less_and_says_so(make_pool: MakePool) -> None:
    pool = make_pool(PLENTIFUL, planner=Optimist())
    lease = await pool.lease(installed())
    assert lease.engine.alive
    (step,) = lease.degraded
    assert step.startswith(f"a context of 256 instead of {TOO_LONG} tokens (because llama.cpp cannot make a context of")
    assert engine(pool).degraded == lease.degraded
    lease.release()
    await pool.unload("one")
    again = await pool.lease(installed())  # at once: it is remembered
    assert again.degraded == lease.degraded
    again.release()


async def test_where_there_is_no_smaller_way_it_is_told_what_was_tried(make_pool: MakePool) -> None:
    pool = make_pool(PLENTIFUL, planner=Optimist(least=TOO_LONG // 2))
    with pytest.raises(DoesNotFit, match=r"memory is short: .* Tried: as it was planned\. There is no smaller way"):
        await pool.lease(installed())
    assert pool.list() == ()


async def test_a_model_whose_smaller_loads_fail_too_is_refused_with_all_that_was_tried(make_pool: MakePool) -> None:
    class Stubborn(Planner):
        async def plan_load(
            self, model: InstalledModel, room: Mapping[str, int], role: Role = "generate", asked: Terms | None = None
        ) -> LoadPlan:
            plan = await super().plan_load(model, room, role, asked)
            return replace(plan, context_tokens=TOO_LONG, needs={RAM: MemoryNeed(0, min(room[RAM], HUGE), 0, 0)})

    pool = make_pool(PLENTIFUL, planner=Stubborn())
    with pytest.raises(DoesNotFit, match="Nothing smaller than that is tried") as refused:
        await pool.lease(installed())
    assert refused.value.message.count("because") == MOST_STEPS
    assert [one.kind for one in pool.steps.latest] == ["less"] * MOST_STEPS + ["refused"]


async def test_a_degraded_engine_climbs_back_when_it_is_idle_and_memory_has_returned(make_pool: MakePool) -> None:
    planner = Optimist()
    pool = make_pool(PLENTIFUL, planner=planner, climb_s=0.1)
    lease = await pool.lease(installed())
    before = engine(pool).pid
    await asyncio.sleep(0.3)
    assert engine(pool).pid == before  # in use
    planner.sober = True
    lease.release()
    await until(lambda: bool(pool.list()) and engine(pool).state == "ready" and engine(pool).pid != before)
    assert engine(pool).degraded == ()


@pytest.mark.parametrize(("available_bytes", "could"), [(700, True), (699, False)])
async def test_what_a_degraded_engine_holds_itself_counts_for_its_way_back(available_bytes: int, could: bool) -> None:
    async def budgets() -> Mapping[str, Budget]:
        return {RAM: Budget(10_000, available_bytes, 0, 1.0)}

    class Ledger:
        changed = asyncio.Event()

        def holdings(self, *, but: Resident | None = None) -> tuple[Holding, ...]:
            held = Holding("one", {RAM: MemoryNeed(400, 0, 0, 0)}, True, 0.0, {RAM: 300})
            return () if but is not None else (held,)

        def frees_s(self, keys: Collection[str]) -> float:
            raise AssertionError(keys)

        async def end_idle(self, key: str) -> None:
            raise AssertionError(key)

        def drain(self, key: str) -> None:
            raise AssertionError(key)

    loader = Loader(SETTINGS, budgets, Planner(), Ledger(), no_starter, None, Steps())
    wanted = LoadPlan(8192, 1, 1, {RAM: MemoryNeed(1000, 0, 0, 0)}, frozenset())
    degraded = Resident(installed(), plan=wanted)
    assert not await loader.could_have_more(degraded)  # it gave nothing up
    assert loader.concede(degraded, EngineLoadFailed("it failed", log_tail=("failed to allocate buffer",)))
    assert await loader.could_have_more(degraded) is could


async def test_who_asks_for_a_degraded_engine_by_hand_does_not_keep_it_from_climbing(make_pool: MakePool) -> None:
    planner = Optimist()
    pool = make_pool(PLENTIFUL, planner=planner, climb_s=0.2)
    lease = await pool.lease(installed())
    assert lease.degraded
    pool.forgive("one")
    planner.sober = True
    lease.release()
    await until(lambda: bool(pool.list()) and engine(pool).state == "ready" and engine(pool).degraded == ())


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="workers are killed by a signal")
async def test_an_engine_that_dies_again_and_again_is_left_alone_for_a_while(make_pool: MakePool) -> None:
    pool = make_pool(planner=Planner({RAM: NEED}))
    for _ in range(FREE_DEATHS + 1):
        (await pool.lease(installed())).release()
        os.kill(engine(pool).pid or 0, signal.SIGKILL)
        await until(lambda: pool.list() == ())
    with pytest.raises(Busy, match=f"has died {FREE_DEATHS + 1} times in a row") as refused:
        await pool.lease(installed())
    assert 0 < refused.value.retry_after_s <= 1
    (await pool.lease(installed("two"))).release()
    await asyncio.sleep(refused.value.retry_after_s + 0.05)
    (await pool.lease(installed())).release()
    pool.forgive("one")
