"""The pool under random schedules of clients, failures and people, in virtual time and with engines that cost nothing.

Memory is short now and then. Whatever happens: never more memory than there is, one engine of a model at a time, none
that is about to end is handed out, none that is busy is ended for others, and everybody who asked gets an answer.
``LILLIPUT_SCHEDULES`` says how many schedules are tried.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

import pytest
from tests.support.virtual_time import run

from lilliput.catalogue import InstalledModel
from lilliput.engine import Engine, EngineLoad, Ready, Role
from lilliput.errors import Busy, Cancelled, DoesNotFit, EngineDied, EngineError, EngineLoadFailed, ShuttingDown
from lilliput.fit import RAM, Budget, MemoryNeed
from lilliput.hardware import Memory, Pressure
from lilliput.llama import Buffers
from lilliput.pool import LoadPlan, MemoryWatch, Pool, PoolSettings, Terms
from lilliput.pool.resident import Lease, Loaded
from lilliput.units import GIB

SCHEDULES = int(os.environ.get("LILLIPUT_SCHEDULES", "1000"))
LIMIT = 10
SIZES = {"one": 3, "two": 4, "three": 5, "four": 6, "huge": 20}
"""Two fit at a time, seldom three; one never does."""
GROUP = frozenset({"one", "three"})
"""These are never in memory together."""

READY = Ready(256, 2048, 100, False, "", "", None, "", 0.0, Buffers({}, {}, {}, {}, ()))
SETTINGS = PoolSettings(
    slots=2,
    keep_alive_s=20.0,
    queue_limit=3,
    threads=1,
    machine="m",
    build="b",
    rungs=("native",),
    climb_s=7.0,
    patience_s=5.0,
    wait_s=60.0,
    groups=(GROUP,),
    caller_limit=5,
)
LONGEST_ANSWER_S = 12.0
FAILURES: tuple[Callable[[], EngineError] | None, ...] = (
    None,
    lambda: EngineLoadFailed("refused", log_tail=("failed to allocate buffer",)),
    lambda: EngineLoadFailed("refused", log_tail=("unknown architecture",)),
    lambda: EngineDied("it died", signal_number=11),
)
ANSWERS = (DoesNotFit, EngineLoadFailed, EngineDied, Busy, Cancelled, ShuttingDown)
"""All that may come in place of an engine."""


@dataclass(eq=False)
class PlayedEngine:
    """What the pool sees of an engine; it takes a while to end."""

    world: World
    name: str
    size: int
    alive: bool = True
    ready: bool = False
    ending: bool = False
    end_s: float = 0.0
    answered: int = 0
    users: int = 0
    pid: None = None
    progress: float = 0.0
    load: EngineLoad = field(default_factory=EngineLoad)
    died: asyncio.Future[EngineDied] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def stats(self) -> None:
        return None

    def drop_prefixes(self) -> None:
        self.load = EngineLoad()

    def die(self) -> None:
        if self in self.world.engines:
            self.alive = False
            self.world.engines.remove(self)
            self.died.set_result(EngineDied("it died", signal_number=9))

    async def aclose(self) -> None:
        if not self.ending and self.world.by_hand != self.name and not self.world.closing:
            assert not self.users or not self.alive, f"{self.name} was ended while it was in use"
        if not self.ending:
            self.ending = True
            self.end_s = asyncio.get_running_loop().time() + self.world.random.choice((0.0, 0.1, 1.0))
        await asyncio.sleep(self.end_s - asyncio.get_running_loop().time())
        self.alive = False
        with contextlib.suppress(ValueError):
            self.world.engines.remove(self)


@dataclass
class World:
    """All engines that live."""

    random: random.Random
    engines: list[PlayedEngine] = field(default_factory=list)
    by_hand: str = ""
    closing: bool = False
    asked: int = 0
    answered: dict[str, int] = field(default_factory=dict)
    loads: int = 0

    def begin(self, engine: PlayedEngine) -> None:
        self.engines.append(engine)
        assert [one.name for one in self.engines].count(engine.name) == 1, f"two engines of {engine.name}"
        assert not {one.name for one in self.engines} >= GROUP, "two engines of an exclusive group"
        self.loads += 1
        held = sum(one.size for one in self.engines)
        assert held <= LIMIT, f"{held} of {LIMIT} are in use: {[(one.name, one.size) for one in self.engines]}"

    async def plan_load(
        self, model: InstalledModel, room: Mapping[str, int], role: Role = "generate", asked: Terms | None = None
    ) -> LoadPlan:
        """Half of what a model would like is enough when it must be."""
        await asyncio.sleep(self.random.choice((0.0, 0.05)))
        size = SIZES[model.name]
        size = size if size <= room[RAM] or size > LIMIT else max(size // 2, min(size, room[RAM]))
        return LoadPlan(256, 2, 4, {RAM: MemoryNeed(size, 0, 0, 0)}, frozenset(), role=role, terms=asked or Terms())


@dataclass
class PlayedStarter:
    """Starts an engine in no time or in a while, and sometimes it fails, for want of memory or otherwise."""

    world: World

    def prepare(self) -> None:
        pass

    async def start(self, model: InstalledModel, plan: LoadPlan, on_engine: Callable[[Engine], None]) -> Loaded:
        engine = PlayedEngine(self.world, model.name, plan.needs[RAM].total_bytes)
        on_engine(cast("Engine", engine))
        took_s = self.world.random.choice((0.0, 0.3, 3.0))
        with contextlib.ExitStack() as stack:
            stack.callback(self.world.engines.remove, engine)
            self.world.begin(engine)
            await asyncio.sleep(took_s)
            fail = self.world.random.choices(FAILURES, (80, 10, 5, 5))[0]
            if fail is not None:
                raise fail()
            engine.ready = True
            stack.pop_all()
        return Loaded(cast("Engine", engine), READY, "native", took_s + 0.1)

    async def aclose(self) -> None:
        pass


class Verdicts:
    def get_fact(self, key: str) -> str | None:
        return None

    def set_fact(self, key: str, value: str) -> None:
        pass


async def client(world: World, pool: Pool, name: str, *, hold_s: float) -> None:
    """Ask for a model, use it for a while, give it back; whatever comes is an answer."""
    world.asked += 1
    keep_alive_s = world.random.choice((None, 0.0, 3.0, -1))
    outcome = "answered"
    try:
        caller = world.random.choice(("ann", "bob", "cy"))
        lease = await pool.lease(InstalledModel(name, "file", ()), keep_alive_s=keep_alive_s, caller=caller)
        await use(lease, name, hold_s)
    except asyncio.CancelledError:
        outcome = "left"
    except ANSWERS as error:
        outcome = error.code
    world.answered[outcome] = world.answered.get(outcome, 0) + 1


async def use(lease: Lease, name: str, hold_s: float) -> None:
    engine = cast("PlayedEngine", lease.engine)
    try:
        assert engine.name == name
        assert not engine.ending, "an engine was handed out that was about to end"
        engine.users += 1
        try:
            await asyncio.sleep(hold_s)
            engine.answered += 1
        finally:
            engine.users -= 1
    finally:
        lease.release()


async def person(world: World, pool: Pool) -> None:
    """Somebody who unloads, drains, pins, kills and measures at random."""
    draw = world.random
    for _ in range(draw.randrange(6)):
        await asyncio.sleep(draw.uniform(0, 15))
        name = draw.choice([*SIZES])
        act = draw.choice(["unload", "drain", "pin", "unpin", "kill", "reserve", "forgive"])
        if act == "unload":
            world.by_hand = name
            await pool.unload(name)
            world.by_hand = ""
        elif act == "drain":
            await pool.unload(name, drain=True)
        elif act == "pin":
            pool.pin([name])
        elif act == "unpin":
            pool.pin([])
        elif act == "forgive":
            pool.forgive(name)
        elif act == "kill" and (living := [one for one in world.engines if one.ready]):
            draw.choice(living).die()
        elif act == "reserve":
            with contextlib.suppress(DoesNotFit):
                async with pool.reserve("tune", {RAM: MemoryNeed(2, 0, 0, 0)}, evict=draw.random() < 0.5):
                    await asyncio.sleep(1.0)
    pool.pin([])


async def weather(world: World, watch: MemoryWatch) -> None:
    """Somebody else who takes memory at random, for seconds or minutes, so that much comes back from swap."""
    swapped = 0
    for _ in range(world.random.randrange(4)):
        for short in (False, True):
            for _ in range(world.random.choice((3, 20, 90))):
                await asyncio.sleep(1.0)
                swapped += GIB * short
                now_s = asyncio.get_running_loop().time()
                await watch.note(Pressure(now_s, Memory(LIMIT, LIMIT, LIMIT), swapped_in_bytes=swapped))


async def play(seed: int) -> World:
    draw = random.Random(seed)
    world = World(draw)

    async def budgets() -> Mapping[str, Budget]:
        await asyncio.sleep(0)
        return {RAM: Budget(LIMIT, LIMIT, 0, 1.0)}

    pool = Pool(SETTINGS, budgets, world, Verdicts(), starters=lambda: PlayedStarter(world))
    watch = MemoryWatch(lambda: pytest.fail("it is told"), pool.relief, pool.steps, 0)
    tasks = [asyncio.create_task(person(world, pool)), asyncio.create_task(weather(world, watch))]
    for _ in range(draw.randrange(1, 14)):
        name = draw.choice([*SIZES])
        tasks.append(asyncio.create_task(client(world, pool, name, hold_s=draw.uniform(0, LONGEST_ANSWER_S))))
        if draw.random() < 0.15:
            asyncio.get_running_loop().call_later(draw.uniform(0, 5), tasks[-1].cancel)
        await asyncio.sleep(draw.choice((0.0, 0.0, 0.2, 4.0, 30.0)))
    async with asyncio.timeout(1200):
        await asyncio.gather(*tasks, return_exceptions=False)
    assert sum(world.answered.values()) == world.asked
    pool.forgive("one")
    for _ in range(20):  # whatever happened before, who asks again is served
        before = world.answered.get("answered", 0)
        await client(world, pool, "one", hold_s=0.1)
        if world.answered.get("answered", 0) > before:
            break
    else:
        pytest.fail(f"nobody is served any more: {world.answered}")
    world.closing = True
    await watch.aclose()
    await pool.aclose()
    assert pool.list() == ()
    assert world.engines == []
    return world


def test_whatever_happens_everybody_is_answered_and_memory_is_never_overcommitted() -> None:
    outcomes: dict[str, int] = {}
    for seed in range(SCHEDULES):
        try:
            world = run(play(seed))
        except BaseException as error:
            error.add_note(f"schedule {seed}")
            raise
        for outcome, count in world.answered.items():
            outcomes[outcome] = outcomes.get(outcome, 0) + count
    assert outcomes["answered"] > sum(outcomes.values()) / 2
    assert {"answered", "left", "does-not-fit", "busy"} <= outcomes.keys()
