"""The pool over real engines of the small model."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from tests.unit.pool.conftest import NEED, PLENTY, MakePool, Planner, installed

from lilliput.catalogue import InstalledFile
from lilliput.engine import Done, Embed, Event, EventStream, Failed, Submit
from lilliput.errors import BadFile, Busy, Cancelled, DoesNotFit, ShuttingDown
from lilliput.fit import RAM, MemoryNeed
from lilliput.llama import RUNGS, SamplerSettings
from lilliput.pool import Lease, LoadReport, Pool, Terms, UseReport
from lilliput.units import MIB


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


def pid_of(pool: Pool, name: str = "one") -> int:
    info = pool.find(name)
    assert info is not None
    assert info.pid is not None
    return info.pid


async def generate(lease: Lease, prompt: str) -> None:
    stream = EventStream()
    greedy = SamplerSettings(temperature=0)
    lease.engine.submit(lambda number: Submit(number, prompt, greedy, max_tokens=2, ignore_eos=True), stream)
    events: list[Event] = []
    while not events or not isinstance(events[-1], Done | Failed):
        events += await stream.take()
    assert isinstance(events[-1], Done)


async def test_leases_at_the_same_time_share_one_load_and_later_ones_its_engine(make_pool: MakePool) -> None:
    pool = make_pool()
    leases = await asyncio.gather(*(pool.lease(installed()) for _ in range(3)))
    later = await pool.lease(installed())
    assert len({id(lease.engine) for lease in (*leases, later)}) == 1
    (info,) = pool.list()
    assert (info.model, info.state, info.context_tokens, info.slots) == ("one", "ready", 256, 2)
    assert info.settings["backend"] in RUNGS
    for lease in (*leases, later):
        lease.release()
        lease.release()
    await pool.aclose()
    assert not psutil.pid_exists(info.pid or 0)
    with pytest.raises(ShuttingDown):
        await pool.lease(installed())


async def test_an_idle_engine_ends_when_its_time_is_over_and_a_used_one_does_not(make_pool: MakePool) -> None:
    pool = make_pool(keep_alive_s=0)
    first = await pool.lease(installed())
    second = await pool.lease(installed())
    pid = pid_of(pool)
    first.release()
    await asyncio.sleep(0)
    assert pool.find("one") is not None
    second.release()
    await until(lambda: pool.list() == ())
    assert not psutil.pid_exists(pid)


async def test_a_lease_says_how_long_its_engine_stays_from_then_on(make_pool: MakePool) -> None:
    pool = make_pool(keep_alive_s=0)
    first = await pool.lease(installed(), keep_alive_s=-1)
    first.release()
    (await pool.lease(installed())).release()
    info = pool.find("one")
    assert info is not None
    assert (info.state, info.expires_at) == ("ready", None)
    (await pool.lease(installed(), keep_alive_s=0)).release()
    await until(lambda: pool.list() == ())


async def test_a_pinned_engine_stays_and_gives_no_way_until_it_is_unpinned(make_pool: MakePool) -> None:
    pool = make_pool(replace(PLENTY, limit_bytes=int(1.5 * NEED.total_bytes)), keep_alive_s=0)
    pool.pin(["one"])
    (await pool.lease(installed("one"))).release()
    pid = pid_of(pool)
    with pytest.raises(DoesNotFit):
        await pool.lease(installed("two"))
    assert pid_of(pool) == pid
    pool.pin([])
    await until(lambda: pool.list() == ())
    (await pool.lease(installed("two"))).release()


async def test_a_drained_engine_ends_when_its_users_have_gone_and_newcomers_wait_for_that(make_pool: MakePool) -> None:
    pool = make_pool()
    user = await pool.lease(installed())
    pid = pid_of(pool)
    draining = asyncio.create_task(pool.unload("one", drain=True))
    await asyncio.sleep(0)
    assert pool.list()[0].state == "draining"
    newcomer = asyncio.create_task(pool.lease(installed()))
    await generate(user, "Hello")
    assert not newcomer.done()
    user.release()
    assert await draining
    lease = await newcomer
    assert pid_of(pool) != pid
    lease.release()


def alone(*leases: Lease) -> list[bool]:
    return [lease.alone for lease in leases]


async def test_a_lease_is_alone_while_nobody_else_has_an_engine(make_pool: MakePool) -> None:
    pool = make_pool()
    first = await pool.lease(installed())
    assert alone(first) == [True]
    assert first.plan.context_tokens == 256
    second = await pool.lease(installed())
    assert alone(first, second) == [False, False]
    second.release()
    assert alone(first) == [False]  # the other one has computed meanwhile
    first.release()
    third = await pool.lease(installed())
    assert alone(third) == [True]
    other = asyncio.create_task(pool.lease(installed("two")))
    await asyncio.sleep(0)
    assert alone(third) == [False]  # a load takes the cores, too
    fourth = await other
    assert alone(fourth) == [False]
    for lease in (third, fourth):
        lease.release()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="workers are killed by a signal")
async def test_an_engine_that_died_is_replaced_and_an_unloaded_one_is_gone(make_pool: MakePool) -> None:
    pool = make_pool()
    (await pool.lease(installed())).release()
    dead = pid_of(pool)
    os.kill(dead, signal.SIGKILL)
    await until(lambda: pool.find("one") is None)
    lease = await pool.lease(installed())
    assert pid_of(pool) != dead
    assert await pool.unload("one")
    assert not lease.engine.alive
    assert not await pool.unload("one")


async def test_what_does_not_fit_is_refused_with_numbers_unless_forced(make_pool: MakePool) -> None:
    pool = make_pool(replace(PLENTY, limit_bytes=1000))
    with pytest.raises(DoesNotFit, match=r"one needs .* 1000 B can be used") as refused:
        await pool.lease(installed())
    assert (refused.value.need_bytes, refused.value.budget_bytes) == (NEED.total_bytes, 1000)
    assert pool.list() == ()
    lease = await pool.lease(installed(), asked=Terms(forced=True))
    assert lease.engine.alive


async def test_an_idle_engine_gives_way_to_another_and_a_busy_one_is_waited_for(make_pool: MakePool) -> None:
    pool = make_pool(replace(PLENTY, limit_bytes=int(1.5 * NEED.total_bytes)))
    one = await pool.lease(installed("one"))
    waiting = asyncio.create_task(pool.lease(installed("two")))
    await asyncio.sleep(0.1)
    assert pid_of(pool, "one")
    assert not waiting.done()
    one.release()
    (await waiting).release()
    assert [info.model for info in pool.list()] == ["two"]
    assert not one.engine.alive


async def test_a_load_that_nobody_waits_for_any_more_is_stopped(make_pool: MakePool) -> None:
    pool = make_pool()
    leaving, staying = (asyncio.create_task(pool.lease(installed())) for _ in range(2))
    await until(lambda: any(info.pid for info in pool.list()))
    leaving.cancel()
    await asyncio.wait([leaving])
    assert (await staying).engine.alive
    only = asyncio.create_task(pool.lease(installed("two")))
    await until(lambda: (info := pool.find("two")) is not None and info.pid is not None)
    pid = pid_of(pool, "two")
    only.cancel()
    await asyncio.wait([only])
    assert only.cancelled()
    await until(lambda: pool.find("two") is None)
    assert not psutil.pid_exists(pid)


async def test_who_waits_for_a_load_that_is_stopped_is_told(make_pool: MakePool) -> None:
    pool = make_pool()
    waiting = asyncio.create_task(pool.lease(installed()))
    await until(lambda: any(info.pid for info in pool.list()))
    assert pool.list()[0].state == "loading"
    assert await pool.unload("one")
    with pytest.raises(Cancelled, match="one was stopped"):
        await waiting


async def test_more_than_the_queue_holds_are_told_to_come_back(make_pool: MakePool) -> None:
    pool = make_pool(slots=1, queue_limit=1)
    leases = [await pool.lease(installed()) for _ in range(2)]
    with pytest.raises(Busy) as busy:
        await pool.lease(installed())
    assert busy.value.retry_after_s > 0
    leases[0].release()
    (await pool.lease(installed())).release()


async def test_a_broken_file_is_named_and_leaves_nothing(make_pool: MakePool, tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF but not really")
    pool = make_pool()
    with pytest.raises(BadFile):
        await pool.lease(replace(installed(), files=(InstalledFile(path, 19),)))
    assert pool.list() == ()


async def test_a_newcomer_does_not_join_a_load_that_its_last_user_has_just_left(make_pool: MakePool) -> None:
    pool = make_pool()
    leaver = asyncio.create_task(pool.lease(installed()))
    await until(lambda: any(info.pid for info in pool.list()))
    leaver.cancel()
    await asyncio.sleep(0)
    lease = await pool.lease(installed())
    assert lease.engine.alive
    with pytest.raises(asyncio.CancelledError):
        await leaver
    lease.release()


async def test_all_sequences_of_a_request_count_in_the_queue(make_pool: MakePool) -> None:
    pool = make_pool(queue_limit=3)
    large = await pool.lease(installed(), sequences=20)
    with pytest.raises(Busy):
        await pool.lease(installed())
    large.release()
    small = await pool.lease(installed(), sequences=2)
    with pytest.raises(Busy):
        await pool.lease(installed(), sequences=4)
    (await pool.lease(installed(), sequences=3)).release()
    small.release()


async def test_a_load_is_told_with_its_plan_and_what_the_library_took(make_pool: MakePool) -> None:
    reports: list[LoadReport] = []
    pool = make_pool(on_loaded=reports.append)
    computing = [pool.computing]
    lease = await pool.lease(installed())
    computing.append(pool.computing)
    (report,) = reports
    assert (report.model.name, report.plan.needs) == ("one", {RAM: NEED})
    buffers = report.loaded.ready.buffers
    assert 80 * MIB < sum(buffers.weights.values()) < 250 * MIB
    assert buffers.cache_bytes == sum(buffers.kv.values()) > 0
    assert sum(buffers.compute.values()) > 0
    lease.release()
    assert [*computing, pool.computing] == [False, True, False]


async def test_an_engine_that_filled_a_micro_batch_is_told_once(make_pool: MakePool) -> None:
    reports: list[UseReport] = []
    told = asyncio.Event()

    async def hear(report: UseReport) -> None:
        reports.append(report)
        told.set()

    pool = make_pool(planner=Planner(ubatch_tokens=64), on_used=hear)
    for words in (10, 100, 100):
        lease = await pool.lease(installed())
        assert reports == [] or words == 100
        await generate(lease, "sea " * words)
        lease.release()
        if words == 100:
            await asyncio.wait_for(told.wait(), 10)
    await pool.unload("one")
    (report,) = reports
    assert (report.model.name, report.filled, report.stored_bytes) == ("one", True, 0)
    assert report.plan.ubatch_tokens == 64
    assert report.loaded.engine.pid is not None


async def test_an_engine_that_was_hardly_used_is_told_while_it_still_lives(make_pool: MakePool) -> None:
    held: list[tuple[bool, bool]] = []

    async def hear(report: UseReport) -> None:
        held.append((report.filled, psutil.pid_exists(report.loaded.engine.pid or 0)))

    pool = make_pool(on_used=hear)
    (await pool.lease(installed())).release()
    await pool.unload("one")
    assert held == [(False, True)]


async def test_what_an_engine_holds_but_has_not_touched_is_promised(make_pool: MakePool) -> None:
    planner = Planner({RAM: MemoryNeed(94 * MIB, 6 * MIB, 2000 * MIB, 70 * MIB)})
    pool = make_pool(planner=planner)
    (await pool.lease(installed("one"))).release()
    (held,) = pool.holdings()
    assert held.idle
    promised = held.promised_bytes(RAM)
    assert 1500 * MIB < promised < 2170 * MIB  # nobody touches 2000 MiB of scratch here
    (await pool.lease(installed("two"))).release()
    assert planner.rooms[1][RAM] == PLENTY.budget_bytes  # made for when all idle engines have gone
    assert {one.name for one in pool.holdings()} == {"one", "two"}


async def test_a_refusal_names_the_device_that_is_too_small(make_pool: MakePool) -> None:
    needs = {RAM: NEED, "Vulkan0": MemoryNeed(1000, 0, 0, 0)}
    pool = make_pool(planner=Planner(needs))
    with pytest.raises(DoesNotFit, match=r"^one needs 1000 B of Vulkan0 .* 0 B can be used") as refused:
        await pool.lease(installed())
    assert (refused.value.need_bytes, refused.value.budget_bytes) == (1000, 0)


async def test_a_model_has_one_engine_for_each_role_and_each_is_in_the_ledger(make_pool: MakePool) -> None:
    pool = make_pool()
    chats, embeds = await asyncio.gather(pool.lease(installed()), pool.lease(installed(), role="embed"))
    again = await pool.lease(installed(), role="embed")
    assert again.engine is embeds.engine is not chats.engine
    assert {(info.model, info.role, info.state) for info in pool.list()} == {
        ("one", "generate", "ready"),
        ("one", "embed", "ready"),
    }
    assert [one.held_bytes(RAM) for one in pool.holdings()] == [NEED.total_bytes] * 2
    vectors = await embeds.engine.pooled(lambda number: Embed(number, ["hello"]))
    assert len(vectors.token_counts) == 1
    for lease in (chats, embeds, again):
        lease.release()
    assert await pool.unload("one")
    assert pool.list() == ()


async def test_an_idle_engine_of_another_role_gives_way(make_pool: MakePool) -> None:
    room = replace(PLENTY, limit_bytes=NEED.total_bytes * 3 // 2)
    pool = make_pool(room)
    (await pool.lease(installed())).release()
    (await pool.lease(installed(), role="embed")).release()
    assert [info.role for info in pool.list()] == ["embed"]


async def test_a_model_that_was_forced_once_is_loaded_though_it_does_not_fit(make_pool: MakePool) -> None:
    planner = Planner()
    planner.agreed = Terms(forced=True)
    pool = make_pool(replace(PLENTY, limit_bytes=1000), planner=planner)
    assert (await pool.lease(installed())).engine.alive


async def test_force_reaches_a_load_that_has_begun_without_it(make_pool: MakePool) -> None:
    pool = make_pool(replace(PLENTY, limit_bytes=1000))
    unforced = asyncio.create_task(pool.lease(installed()))
    while not pool.list():
        await asyncio.sleep(0)
    forced = await pool.lease(installed(), asked=Terms(forced=True))
    assert (await unforced).engine is forced.engine


async def test_an_engine_on_other_terms_is_loaded_anew_when_idle_and_left_when_in_use(make_pool: MakePool) -> None:
    pool = make_pool()
    lease = await pool.lease(installed())
    with pytest.raises(Busy, match="in use, loaded on other terms"):
        await pool.lease(installed(), asked=Terms(slots=1))
    first = pid_of(pool)
    lease.release()
    other = await pool.lease(installed(), asked=Terms(slots=1))
    assert pid_of(pool) != first
    assert not lease.engine.alive
    assert (await pool.lease(installed(), asked=Terms(slots=1))).engine is other.engine
    assert (await pool.lease(installed())).engine is other.engine, "who asks for nothing takes what is there"
