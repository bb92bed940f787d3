"""Blocking work beside the event loop, in two manners: to be finished at any price, or to be walked away from."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


async def finished(
    function: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """The result of ``function`` run in a thread; a cancel takes effect only once it has ended.

    For short work on a file, which must not go on behind the back of code that closes the file.
    """
    task = asyncio.create_task(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # seen: the cancel is what counts
        raise


async def detached(
    function: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """The result of ``function`` run in a thread of its own, which a cancel or an exit leaves behind.

    For network calls of a synchronous library: they cannot be interrupted, and a silent server may hold them for long.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Result] = loop.create_future()

    def settle(error: BaseException | None, result: Result | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)  # type: ignore[arg-type]  # without an error there is a result

    def run() -> None:
        error: BaseException | None = None
        result: Result | None = None
        try:
            result = function(*args, **kwargs)
        except Exception as caught:
            error = caught
        with suppress(RuntimeError):  # the loop may be closed by now: nobody waits any more
            loop.call_soon_threadsafe(settle, error, result)

    threading.Thread(target=run, name="hub-call", daemon=True).start()
    return await answer
