"""The daemon's end of a request: events as they arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lilliput.engine.wire import Event
from lilliput.errors import Cancelled, LilliputError

MOST_WAITING = 16_384
"""Events that may wait for a reader who has stopped reading: some 3 MB, beside what its connection's buffers hold."""
MOST_AT_ONCE = 512
"""Events of one turn, so that a reader who was behind does not hold up the others."""


class EventStream:
    """A mailbox between the engine's socket and the one task that reads; several sequences may share it.

    A reader who falls behind by more than ``most_waiting`` events loses the stream: ``on_overflow`` is called once to
    free the sequences, what waits can still be read, and then the stream fails with Cancelled.
    """

    def __init__(self, on_overflow: Callable[[], None] | None = None, *, most_waiting: int = MOST_WAITING) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: list[Event] = []
        self._error: LilliputError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._behind = False
        self._on_overflow = on_overflow
        self._most_waiting = most_waiting

    @property
    def ready(self) -> bool:
        """Whether there is something to read, if only an error."""
        return bool(self._events) or self._error is not None

    def push(self, event: Event) -> None:
        """Add an event."""
        events = self._events
        events.append(event)
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)
        elif len(events) > self._most_waiting:
            self._overflow()

    def fail(self, error: LilliputError) -> None:
        """End the stream: readers get what is left, then ``error``."""
        self._error = error
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def take(self) -> list[Event]:
        """All events that wait, at least one and at most MOST_AT_ONCE; raises what ``fail`` was given."""
        if self._behind:
            await asyncio.sleep(0)
        while not self._events:
            if self._error is not None:
                raise self._error
            self._waiter = self._loop.create_future()
            await self._waiter
        events = self._events
        self._behind = len(events) > MOST_AT_ONCE
        self._events = events[MOST_AT_ONCE:] if self._behind else []
        return events[:MOST_AT_ONCE] if self._behind else events

    def _overflow(self) -> None:
        if self._error is None:
            self._error = Cancelled(
                f"the answer was stopped: {self._most_waiting} tokens wait to be read",
                hint="read the stream as it comes",
            )
            if self._on_overflow is not None:
                self._on_overflow()
