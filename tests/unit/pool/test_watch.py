"""Memory that is short while engines serve, in virtual time and with engines that cost nothing."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

import pytest
from tests.support.virtual_time import run
from tests.unit.pool.test_pool_schedules import READY, Verdicts

from lilliput.catalogue import InstalledModel
from lilliput.engine import Engine, EngineLoad, Role
from lilliput.errors import EngineDied
from lilliput.fit import RAM, Budget, MemoryNeed
from lilliput.hardware import Memory, Pressure
from lilliput.pool import EngineInfo, LoadPlan, MemoryWatch, Pool, PoolSettings, Terms
from lilliput.pool.pressure import BUSY_APART_S, BUSY_HOLD_S, CALM_S
from lilliput.pool.relief import FIRST_REST_S
from lilliput.pool.resident import Lease, Loaded
from lilliput.units import GIB, MIB

CONTEXT, CELL = 8192, MIB // 8
RESERVE = 512 * MIB
CLIMB_S = 60.0


@dataclass(eq=False)
class QuietEngine:
    """What the pool sees of an engine; ``cached`` tokens are kept for later."""

    size: int
    cached: int = 100
    alive: bool = True
    pid: None = None
    progress: float = 1.0
    answered: int = 0
    died: asyncio.Future[EngineDied] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def load(self) -> EngineLoad:
        return EngineLoad(cached_tokens=self.cached)

    def stats(self) -> None:
        return None

    def drop_prefixes(self) -> None:
        self.cached = 0

    async def aclose(self) -> None:
        self.alive = False


class Starter:
    def __init__(self, world: World) -> None:
        self._world = world

    def prepare(self) -> None:
        pass

    async def start(self, model: InstalledModel, plan: LoadPlan, on_engine: Callable[[Engine], None]) -> Loaded:
        engine = QuietEngine(plan.total_bytes)
        on_engine(cast("Engine", engine))
        await asyncio.sleep(1.0)
        self._world.engines.append(engine)
        return Loaded(cast("Engine", engine), READY, "native", 1.0)

    async def aclose(self) -> None:
        pass


@dataclass
class World:
    """8 GiB of memory, of which somebody else takes ``foreign``; a context can be made as short as ``least``."""

    foreign: int = 0
    least: int = 256
    engines: list[QuietEngine] = field(default_factory=list)

    @property
    def available(self) -> int:
        return 8 * GIB - self.foreign - sum(one.size for one in self.engines if one.alive)

    async def budgets(self) -> Mapping[str, Budget]:
        held = sum(one.size for one in self.engines if one.alive)
        return {RAM: Budget(8 * GIB, self.available + held, RESERVE, 1.0)}

    async def plan_load(
        self, model: InstalledModel, room: Mapping[str, int], role: Role = "generate", asked: Terms | None = None
    ) -> LoadPlan:
        fitting = min(CONTEXT, max(self.least, room[RAM] // CELL))
        needs = {RAM: MemoryNeed(0, fitting * CELL, 0, 0)}
        return LoadPlan(fitting, 2, 4, needs, frozenset(), role=role, terms=asked or Terms())


@contextlib.asynccontextmanager
async def served(world: World) -> AsyncIterator[tuple[Pool, MemoryWatch]]:
    settings = PoolSettings(2, -1, 9, 1, "m", "b", ("native",), climb_s=CLIMB_S)
    pool = Pool(settings, world.budgets, world, Verdicts(), starters=lambda: Starter(world))

    async def look() -> None:
        while True:
            await asyncio.sleep(1.0)
            now_s = asyncio.get_running_loop().time()
            await watch.note(Pressure(now_s, Memory(8 * GIB, world.available, 8 * GIB)))

    watch = MemoryWatch(lambda: pytest.fail("it is told"), pool.relief, pool.steps, RESERVE)
    looking = asyncio.create_task(look())
    try:
        yield pool, watch
    finally:
        looking.cancel()
        await watch.aclose()
        await pool.aclose()


async def lease(pool: Pool, name: str = "one") -> Lease:
    return await pool.lease(InstalledModel(name, "file", ()))


def kinds(pool: Pool) -> list[str]:
    return [step.kind for step in pool.steps.latest]


def engine(pool: Pool) -> EngineInfo:
    (found,) = pool.list()
    return found


def test_prefixes_go_first_then_idle_engines_and_what_is_busy_stays_where_that_is_enough() -> None:
    async def story() -> None:
        world = World()
        async with served(world) as (pool, _):
            busy = await lease(pool)
            world.least = CONTEXT
            (await lease(pool, "two")).release()
            world.foreign = 8 * GIB - 2 * GIB - RESERVE // 4
            await asyncio.sleep(30)
            assert kinds(pool) == ["drop", "drop", "evict"]
            assert [one.model for one in pool.list()] == ["one"]
            assert busy.engine.alive
            seen = [pool.relief.now]
            await asyncio.sleep(CALM_S)
            assert [now.pressed for now in (*seen, pool.relief.now)] == [True, False]
            busy.release()

    run(story())


def test_a_pinned_engine_is_not_ended() -> None:
    async def story() -> None:
        world = World(least=CONTEXT)
        async with served(world) as (pool, _):
            (await lease(pool)).release()
            pool.pin(["one"])
            world.foreign = 8 * GIB - GIB
            await asyncio.sleep(120)
            assert [one.model for one in pool.list()] == ["one"]
            assert kinds(pool) == ["drop", "stuck"]

    run(story())


def test_a_busy_engine_is_loaded_with_less_between_requests_and_nobody_fails() -> None:
    async def story() -> None:
        world = World()
        async with served(world) as (pool, _):
            busy = await lease(pool)
            world.foreign = 8 * GIB - GIB - RESERVE // 4
            await asyncio.sleep(BUSY_HOLD_S + 5)
            assert kinds(pool) == ["drop", "step-down"]
            assert (engine(pool).state, busy.engine.alive) == ("draining", True)
            next_one = asyncio.create_task(lease(pool))
            await asyncio.sleep(5)
            assert not next_one.done()
            busy.release()
            after = await next_one
            assert after.plan.context_tokens < CONTEXT
            assert "instead of 8192 tokens (because" in after.degraded[0]
            assert "are available beside the weights in use" in after.degraded[0]
            after.release()
            assert len(pool.list()) == 1

    run(story())


def test_an_engine_nobody_waits_for_is_loaded_again_too() -> None:
    async def story() -> None:
        world = World()
        async with served(world) as (pool, _):
            busy = await lease(pool)
            world.foreign = 8 * GIB - GIB - RESERVE // 4
            await asyncio.sleep(BUSY_HOLD_S + 5)
            busy.release()
            await asyncio.sleep(3)
            assert engine(pool).state == "ready"
            assert engine(pool).degraded

    run(story())


def test_what_stepped_down_climbs_back_when_memory_has_been_there_for_long() -> None:
    async def story() -> None:
        world = World()
        async with served(world) as (pool, _):
            busy = await lease(pool)
            world.foreign = 8 * GIB - GIB - RESERVE // 4
            await asyncio.sleep(BUSY_HOLD_S + 5)
            busy.release()
            await asyncio.sleep(3)
            world.foreign = 0
            (await lease(pool)).release()
            await asyncio.sleep(CLIMB_S + CALM_S)
            assert engine(pool).degraded  # it might be short again soon
            await asyncio.sleep(FIRST_REST_S)
            (await lease(pool)).release()
            await asyncio.sleep(CLIMB_S + 5)
            assert engine(pool).degraded == ()
            assert kinds(pool)[-1] == "climb"

    run(story())


def test_where_nothing_smaller_is_possible_the_busy_engine_goes_on_and_it_is_said_once() -> None:
    async def story() -> None:
        world = World(least=CONTEXT)
        async with served(world) as (pool, _):
            busy = await lease(pool)
            world.foreign = 8 * GIB - GIB - RESERVE // 4
            await asyncio.sleep(5 * BUSY_APART_S)
            assert kinds(pool) == ["drop", "stuck"]
            assert busy.engine.alive
            assert engine(pool).state == "ready"
            busy.release()

    run(story())


def test_what_is_forced_is_left_alone() -> None:
    async def story() -> None:
        world = World()
        async with served(world) as (pool, _):
            busy = await pool.lease(InstalledModel("one", "file", ()), asked=Terms(forced=True))
            world.foreign = 8 * GIB - GIB - RESERVE // 4
            await asyncio.sleep(2 * BUSY_APART_S)
            assert kinds(pool) == ["drop"]
            busy.release()

    run(story())


def test_memory_that_comes_and_goes_does_not_make_engines_come_and_go() -> None:
    async def story() -> None:
        draw = random.Random(1)
        world = World()
        async with served(world) as (pool, _):
            for _ in range(120):  # an hour
                used = await lease(pool)
                world.foreign = draw.choice((0, 8 * GIB - GIB - RESERVE // 4))
                await asyncio.sleep(28)
                used.release()
                await asyncio.sleep(2)
            assert len(world.engines) <= 3600 / FIRST_REST_S
            assert len(pool.steps.latest) < 40

    run(story())


def test_a_forced_load_ends_idle_engines_first_although_it_does_not_fit_all_the_same() -> None:
    async def story() -> None:
        world = World(least=CONTEXT)
        async with served(world) as (pool, _):
            (await lease(pool)).release()
            busy = await lease(pool, "busy")
            world.foreign = 6 * GIB
            forced = await pool.lease(InstalledModel("two", "file", ()), asked=Terms(forced=True))
            assert sorted(one.model for one in pool.list()) == ["busy", "two"]
            assert busy.engine.alive
            busy.release()
            forced.release()

    run(story())
