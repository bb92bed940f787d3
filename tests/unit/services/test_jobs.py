"""Jobs are accepted on disk, run in order, tell their progress, and go on after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.unit.services.job_bench import Bench, MemoryStore, Time

from lilliput.catalogue import StoredJob
from lilliput.errors import BadFile, Cancelled, DiskFull, JobNotFound, ShuttingDown, StorageError
from lilliput.services.jobs import KEEP_FINISHED, KEEP_FINISHED_S


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def bench(store: MemoryStore) -> AsyncIterator[Bench]:
    made = Bench(store)
    await made.jobs.start()
    yield made
    await made.jobs.aclose()


async def test_a_job_is_on_disk_before_it_is_acknowledged(bench: Bench, store: MemoryStore) -> None:
    store.gate.clear()
    submitting = asyncio.create_task(bench.submit("a"))
    await asyncio.sleep(0)
    assert not submitting.done()
    store.gate.set()
    job = await submitting
    assert job.state in {"queued", "running"}
    assert job.id in store.jobs


async def test_a_disk_that_refuses_refuses_the_job(bench: Bench, store: MemoryStore) -> None:
    store.fault = DiskFull("the disk is full")
    with pytest.raises(DiskFull):
        await bench.submit("a")
    assert bench.jobs.list() == ()


async def test_a_caller_that_leaves_while_submitting_leaves_a_whole_job(bench: Bench, store: MemoryStore) -> None:
    store.gate.clear()
    submitting = asyncio.create_task(bench.submit("a"))
    await asyncio.sleep(0)
    submitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submitting
    store.gate.set()
    await bench.running("a")
    (job,) = bench.jobs.list()
    assert job.id in store.jobs


async def test_a_job_runs_and_its_result_is_kept(bench: Bench, store: MemoryStore) -> None:
    job = await bench.submit("a")
    handle = await bench.running("a")
    assert handle.request == {"model": "a"}
    handle.note(quantization="Q4_K_M")
    bench.ends["a"].set_result({"files": ["x"]})
    final = await bench.finished(job)
    assert (final.state, final.phase, final.error) == ("done", "done", None)
    assert final.result == {"quantization": "Q4_K_M", "files": ["x"]}
    assert store.jobs[job.id].state == "done"
    assert store.jobs[job.id].body["result"] == final.result


async def test_a_failure_keeps_code_message_and_hint(bench: Bench, store: MemoryStore) -> None:
    job = await bench.submit("a")
    await bench.running("a")
    bench.ends["a"].set_exception(BadFile("x.gguf is cut short", hint="pull it again"))
    final = await bench.finished(job)
    assert final.state == "failed"
    assert final.error is not None
    assert (final.error.code, final.error.message, final.error.hint) == (
        "bad-file",
        "x.gguf is cut short",
        "pull it again",
    )
    assert store.jobs[job.id].body["error"]["code"] == "bad-file"


async def test_an_unforeseen_failure_is_told_and_logged(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    job = await bench.submit("a")
    await bench.running("a")
    bench.ends["a"].set_exception(ZeroDivisionError("division by zero"))
    final = await bench.finished(job)
    assert final.error is not None
    assert final.error.code == "internal-error"
    assert "division by zero" in final.error.message
    assert "ZeroDivisionError" in caplog.text


async def test_a_runner_that_says_cancelled_makes_a_cancelled_job(bench: Bench) -> None:
    job = await bench.submit("a")
    await bench.running("a")
    bench.ends["a"].set_exception(Cancelled("the other side gave up"))
    assert (await bench.finished(job)).state == "cancelled"


async def test_work_that_stops_by_itself_is_a_failure(bench: Bench) -> None:
    job = await bench.submit("a")
    await bench.running("a")
    bench.ends["a"].cancel()
    assert (await bench.finished(job)).state == "failed"


async def test_a_kind_nobody_does_fails_clearly(bench: Bench) -> None:
    job = await bench.jobs.submit("knit", "a", {})
    final = await bench.finished(job)
    assert final.error is not None
    assert "knit" in final.error.message


async def test_progress_carries_rate_and_eta(bench: Bench) -> None:
    await bench.submit("a")
    handle = await bench.running("a")
    handle.enter("downloading", "pulling")
    handle.work_on("x.gguf", "sha256:ab")
    for second in range(5):
        handle.progress(500 + second * 100, 2000, skipped_bytes=500)
        bench.time.now += 1
    job = handle.job
    assert (job.phase, job.message, job.file, job.digest) == ("downloading", "pulling", "x.gguf", "sha256:ab")
    assert (job.completed_bytes, job.total_bytes) == (900, 2000)
    assert job.rate_bytes_s == pytest.approx(100)
    assert job.eta_s == pytest.approx(11)


async def test_a_new_phase_measures_anew(bench: Bench) -> None:
    await bench.submit("a")
    handle = await bench.running("a")
    handle.enter("downloading")
    handle.progress(0, 100)
    bench.time.now += 1
    handle.progress(50, 100)
    assert handle.job.rate_bytes_s == pytest.approx(50)
    handle.enter("verifying")
    assert handle.job.rate_bytes_s is None
    handle.enter("verifying", "almost there")
    assert handle.job.message == "almost there"


async def test_progress_is_saved_at_most_once_a_second(bench: Bench, store: MemoryStore) -> None:
    job = await bench.submit("a")
    handle = await bench.running("a")
    bench.time.now += 5
    for step in range(100):
        handle.progress(step, 100)
        await asyncio.sleep(0)
        bench.time.now += 0.05
    bench.ends["a"].set_result({})
    await bench.finished(job)
    assert len(store.saves) <= 2 + 6 + 1


async def test_results_noted_early_are_saved_at_once(bench: Bench, store: MemoryStore) -> None:
    job = await bench.submit("a")
    handle = await bench.running("a")
    handle.note(revision="c0ffee")
    await bench.jobs.aclose()
    assert store.jobs[job.id].body["result"] == {"revision": "c0ffee"}


async def test_a_slow_reader_gets_the_newest_snapshot_only(bench: Bench) -> None:
    job = await bench.submit("a")
    handle = await bench.running("a")
    events = bench.jobs.events(job.id)
    await anext(events)
    for step in range(1000):
        handle.progress(step, 1000)
    assert (await anext(events)).completed_bytes == 999
    bench.ends["a"].set_result({})
    assert [seen.state async for seen in events] == ["done"]


async def test_each_reader_sees_the_end(bench: Bench) -> None:
    job = await bench.submit("a")
    await bench.running("a")
    readers = [asyncio.create_task(bench.finished(job)) for _ in range(3)]
    await asyncio.sleep(0)
    bench.ends["a"].set_result({})
    assert {seen.state for seen in await asyncio.gather(*readers)} == {"done"}


async def test_events_of_a_finished_job_are_its_last_snapshot(bench: Bench) -> None:
    job = await bench.submit("a")
    await bench.running("a")
    bench.ends["a"].set_result({})
    await bench.finished(job)
    assert [seen.state async for seen in bench.jobs.events(job.id)] == ["done"]


async def test_at_most_limit_jobs_run_and_the_rest_wait_in_order(bench: Bench) -> None:
    for name in "abcd":
        await bench.submit(name)
    await bench.running("a")
    await bench.running("b")
    assert [job.state for job in bench.jobs.list()] == ["running", "running", "queued", "queued"]
    bench.ends["b"].set_result({})
    await bench.running("c")
    bench.ends["a"].set_result({})
    await bench.running("d")


async def test_cancelling_a_running_job_stops_its_work(bench: Bench, store: MemoryStore) -> None:
    job = await bench.submit("a")
    await bench.running("a")
    final = await bench.jobs.cancel(job.id)
    assert final.state == "cancelled"
    assert bench.ends["a"].cancelled()
    assert store.jobs[job.id].state == "cancelled"


async def test_cancelling_a_waiting_job_never_starts_it(bench: Bench) -> None:
    for name in "ab":
        await bench.submit(name)
        await bench.running(name)
    job = await bench.submit("c")
    both = await asyncio.gather(bench.jobs.cancel(job.id), bench.jobs.cancel(job.id))
    assert [final.state for final in both] == ["cancelled", "cancelled"]
    bench.ends["a"].set_result({})
    await bench.finished(bench.jobs.list()[0])
    assert "c" not in bench.handles


async def test_cancelling_a_job_that_is_just_being_accepted_works(bench: Bench, store: MemoryStore) -> None:
    store.gate.clear()
    submitting = asyncio.create_task(bench.submit("a"))
    await asyncio.sleep(0)
    (job,) = bench.jobs.list()
    cancelling = asyncio.create_task(bench.jobs.cancel(job.id))
    await asyncio.sleep(0)
    store.gate.set()
    assert (await cancelling).state == "cancelled"
    await submitting


async def test_cancelling_a_finished_job_changes_nothing(bench: Bench) -> None:
    job = await bench.submit("a")
    await bench.running("a")
    bench.ends["a"].set_result({"x": 1})
    final = await bench.finished(job)
    assert await bench.jobs.cancel(job.id) == final


async def test_unknown_ids_are_an_error_at_once(bench: Bench) -> None:
    with pytest.raises(JobNotFound, match="job-nope"):
        bench.jobs.get("job-nope")
    with pytest.raises(JobNotFound):
        bench.jobs.events("job-nope")
    with pytest.raises(JobNotFound):
        await bench.jobs.cancel("job-nope")


async def test_the_same_key_while_unfinished_is_the_same_job(bench: Bench) -> None:
    first, second = await asyncio.gather(bench.submit("a", "k"), bench.submit("a", "k"))
    assert first.id == second.id
    assert (await bench.submit("a", "other")).id != first.id
    await bench.running("a")
    await bench.jobs.cancel(first.id)
    assert (await bench.submit("a", "k")).id != first.id


async def test_ids_are_unlike_and_sort_by_time(bench: Bench) -> None:
    ids = [(await bench.submit(f"m{index}")).id for index in range(5)]
    assert ids == sorted(ids)
    assert len({job_id[-8:] for job_id in ids}) == 5


async def test_a_restart_goes_on_with_unfinished_jobs_in_order(store: MemoryStore) -> None:
    before = Bench(store, limit=1)
    await before.jobs.start()
    jobs = [await before.submit(name, f"key {name}") for name in "abc"]
    handle = await before.running("a")
    handle.note(revision="c0ffee")
    followed = asyncio.create_task(before.finished(jobs[0]))
    await asyncio.sleep(0)
    await before.jobs.aclose()
    assert (await followed).state == "running", "followers end when the daemon stops"
    assert {job.state for job in store.jobs.values()} <= {"queued", "running"}

    after = Bench(store, limit=1)
    await after.jobs.start()
    handle = await after.running("a")
    assert handle.request == {"model": "a"}
    assert handle.job.result == {"revision": "c0ffee"}
    assert (await after.submit("b", "key b")).id == jobs[1].id
    after.ends["a"].set_result({})
    await after.running("b")
    await after.jobs.aclose()


async def test_finished_jobs_survive_a_restart_as_they_were(bench: Bench, store: MemoryStore) -> None:
    job = await bench.submit("a")
    await bench.running("a")
    bench.ends["a"].set_exception(BadFile("broken", hint="mend it"))
    final = await bench.finished(job)
    after = Bench(store)
    await after.jobs.start()
    assert after.jobs.get(job.id) == final
    await after.jobs.aclose()


async def test_a_stopping_daemon_takes_no_jobs(bench: Bench) -> None:
    await bench.jobs.aclose()
    with pytest.raises(ShuttingDown):
        await bench.submit("a")


async def test_a_job_ends_even_when_its_end_cannot_be_saved(bench: Bench, store: MemoryStore) -> None:
    job = await bench.submit("a")
    await bench.running("a")
    store.fault = StorageError("the disk is gone")
    bench.ends["a"].set_result({})
    assert (await bench.finished(job)).state == "done"


async def test_old_finished_jobs_are_forgotten_and_unfinished_ones_never(store: MemoryStore) -> None:
    now = Time().now
    for index in range(KEEP_FINISHED + 5):
        store.save_job(StoredJob(f"job-{index:03}", "pull", "done", now + index, now + index, {"model": "m"}))
    ancient = now - KEEP_FINISHED_S - 1
    store.save_job(StoredJob("job-ancient", "pull", "failed", ancient, ancient, {"model": "m"}))
    store.save_job(StoredJob("job-waiting", "pull", "queued", ancient, ancient, {"model": "m"}))
    bench = Bench(store)
    await bench.jobs.start()
    await bench.running("m")
    kept = {job.id for job in bench.jobs.list()}
    assert kept == {"job-waiting"} | {f"job-{index:03}" for index in range(5, KEEP_FINISHED + 5)}
    assert set(store.jobs) == kept
    await bench.jobs.aclose()
