from __future__ import annotations

import asyncio

from tests.unit.services.job_bench import Bench, MemoryStore

from lilliput.services.job_records import Job


async def queued(bench: Bench, job: Job, position: int | None) -> Job:
    """The job, once it is at this place."""
    async with asyncio.timeout(5):
        async for seen in bench.jobs.events(job.id):
            if seen.position == position:
                return seen
    raise AssertionError(f"{job.id} was never number {position}")


async def test_a_job_of_one_kind_takes_no_place_of_another() -> None:
    bench = Bench(MemoryStore(), {"pull": 1, "verify": 1})
    await bench.jobs.start()
    await bench.submit("checks", kind="verify")
    await bench.running("checks")
    await bench.submit("first")
    await bench.running("first")
    second = await bench.submit("second")
    assert (await queued(bench, second, 1)).state == "queued"
    more = await bench.submit("more checks", kind="verify")
    assert (await queued(bench, more, 1)).state == "queued"
    bench.ends["first"].set_result({})
    await bench.running("second")
    assert bench.jobs.get(more.id).state == "queued"
    await bench.jobs.aclose()


async def test_those_that_wait_know_their_number_and_move_up() -> None:
    bench = Bench(MemoryStore(), {"pull": 1})
    await bench.jobs.start()
    await bench.submit("a")
    await bench.running("a")
    waiting = [await bench.submit(name) for name in "bcd"]
    assert [bench.jobs.get(job.id).position for job in waiting] == [1, 2, 3]
    await bench.jobs.cancel(waiting[0].id)
    assert [bench.jobs.get(job.id).position for job in waiting] == [None, 1, 2]
    bench.ends["a"].set_result({})
    await bench.running("c")
    assert (await queued(bench, waiting[1], None)).state == "running"
    assert bench.jobs.get(waiting[2].id).position == 1
    await bench.jobs.aclose()


async def test_after_a_restart_those_that_wait_have_numbers_again() -> None:
    store = MemoryStore()
    before = Bench(store, {"pull": 1})
    await before.jobs.start()
    jobs = [await before.submit(name) for name in "abc"]
    await before.running("a")
    await before.jobs.aclose()
    after = Bench(store, {"pull": 1})
    await after.jobs.start()
    await after.running("a")
    assert [after.jobs.get(job.id).position for job in jobs] == [None, 1, 2]
    assert after.jobs.get(jobs[1].id).message == "waiting to go on"
    await after.jobs.aclose()
