from __future__ import annotations

import asyncio
import threading

import pytest

from lilliput.hub.threads import detached, finished


async def test_both_hand_over_results_and_errors() -> None:
    for run in (finished, detached):
        assert await run(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await run(divmod, 7, 0)


async def test_a_cancel_of_work_to_be_finished_waits_for_its_end() -> None:
    begun, release, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        release.wait()
        ended.set()

    task = asyncio.create_task(finished(work))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    asyncio.get_running_loop().call_later(0.01, release.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_a_cancel_of_detached_work_leaves_it_behind() -> None:
    begun, release = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        release.wait()

    task = asyncio.create_task(detached(work))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()


def test_detached_work_that_outlives_its_loop_ends_quietly() -> None:
    release, ended = threading.Event(), threading.Event()

    def work() -> None:
        release.wait()
        ended.set()

    async def start_and_leave() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(detached(work), 0.01)

    asyncio.run(start_and_leave())
    release.set()
    assert ended.wait(5)
