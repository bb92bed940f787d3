"""The daemon's end of a request: events as they arrive."""

from __future__ import annotations

import asyncio
from collections import deque

from lilliput.engine.wire import Event
from lilliput.errors import LilliputError


class EventStream:
    """A mailbox between the engine's socket and the one task that reads; several sequences may share it."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._error: LilliputError | None = None
        self._waiter: asyncio.Future[None] | None = None

    def push(self, event: Event) -> None:
        """Add an event."""
        self._events.append(event)
        self._wake()

    def fail(self, error: LilliputError) -> None:
        """End the stream: readers get what is left, then ``error``."""
        self._error = error
        self._wake()

    async def get(self) -> Event:
        """The next event; raises what ``fail`` was given."""
        while not self._events:
            if self._error is not None:
                raise self._error
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._events.popleft()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
