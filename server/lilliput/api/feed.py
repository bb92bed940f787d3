"""Where a streamed response takes its events from: all that wait, at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Sequence
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar, runtime_checkable

from lilliput.api.attention import put_down

Event_co = TypeVar("Event_co", covariant=True)
Event = TypeVar("Event")

MOST_GATHERED = 1024
"""Events that may be taken from an iterator before they are sent."""
FAIR_EVENTS = 32
"""After so many events from an iterator that never truly waits, others get a turn."""


@runtime_checkable
class Feed(Protocol[Event_co]):
    """A source that gives what it has in one go, so that a burst costs one turn of the loop and one write."""

    @property
    def ready(self) -> bool:
        """Whether ``take`` would return, or raise, at once."""
        ...

    async def take(self) -> tuple[Sequence[Event_co], bool]:
        """All events that wait, at least one unless they are the last, and whether they are the last."""
        ...


class Gathered(Generic[Event]):
    """Any iterator as a feed: a task draws from it and waits when MOST_GATHERED events wait; ends with its block."""

    def __init__(self, source: AsyncIterable[Event]) -> None:
        self._source = source
        self._events: list[Event] = []
        self._error: Exception | None = None
        self._ended = False
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._draw())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        await put_down(self._task)

    @property
    def ready(self) -> bool:
        """Whether ``take`` would return, or raise, at once."""
        return self._news.is_set()

    async def take(self) -> tuple[Sequence[Event], bool]:
        """What was drawn; raises what the iterator has raised, after all that came before it."""
        await self._news.wait()
        events, self._events = self._events, []
        if self._error is not None and not events:
            raise self._error
        if self._error is None and not self._ended:
            self._news.clear()
        self._room.set()
        return events, self._ended

    async def _draw(self) -> None:
        count = 0
        try:
            async for event in self._source:
                self._events.append(event)
                self._news.set()
                count += 1
                if count % FAIR_EVENTS == 0:
                    await asyncio.sleep(0)
                while len(self._events) >= MOST_GATHERED:
                    self._room.clear()
                    await self._room.wait()
            self._ended = True
        except Exception as error:
            self._error = error
        self._news.set()
