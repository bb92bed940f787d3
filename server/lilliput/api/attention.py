"""Do a piece of work for a client for as long as the client is there and the server runs."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from lilliput.errors import Cancelled, ShuttingDown

T = TypeVar("T")


async def disconnected(receive: Receive) -> None:
    """Return when the client has gone; the request's body must have been read."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return


async def attended(work: Coroutine[Any, Any, T], receive: Receive, stop: asyncio.Event) -> T:
    """The result of ``work``; cancelled at once when the client leaves (Cancelled) or on ``stop`` (ShuttingDown)."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(disconnected(receive))
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((task, gone, stopped), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if gone.done():
            raise Cancelled("the client has gone")
        raise shutting_down()
    finally:
        await put_down(task, gone, stopped)


def shutting_down() -> ShuttingDown:
    """What clients are told when the server stops under them."""
    return ShuttingDown("the server is shutting down", hint="try again in a few seconds")


async def put_down(*tasks: asyncio.Future[Any]) -> None:
    """Cancel ``tasks`` and wait until they have ended, whatever their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
