"""One download for everybody who wants the same blob: shared, counted, and ended when the last one leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from lilliput.errors import ShuttingDown
from lilliput.hub.records import DownloadProgress
from lilliput.hub.transfer import OnProgress

Start = Callable[[OnProgress], Awaitable[None]]


class _Flight:
    """A running download and those who wait for it."""

    def __init__(self, start: Start) -> None:
        self.listeners: list[OnProgress] = []
        self.last: DownloadProgress | None = None
        self.task: asyncio.Future[None] = asyncio.ensure_future(start(self.report))

    def report(self, progress: DownloadProgress) -> None:
        self.last = progress
        for listener in tuple(self.listeners):
            listener(progress)


class Flights:
    """Running downloads by the blob they fill; used from one event loop."""

    def __init__(self) -> None:
        self._flights: dict[Path, _Flight] = {}

    async def join(self, blob: Path, start: Start, on_progress: OnProgress) -> None:
        """Wait for the download of ``blob``, starting it if it is not under way.

        A cancel of one waiter leaves the others' download alone; the last one to leave cancels it and sees it end.
        """
        flight = self._flights.get(blob)
        if flight is None:
            flight = self._flights[blob] = _Flight(start)
        elif flight.last is not None:
            on_progress(flight.last)
        flight.listeners.append(on_progress)
        try:
            await asyncio.shield(flight.task)
        except asyncio.CancelledError:
            if flight.task.cancelled():
                raise ShuttingDown(
                    "the download was stopped", hint="what was fetched is kept; pull again to go on"
                ) from None
            raise
        finally:
            flight.listeners.remove(on_progress)
            if not flight.listeners:
                self._flights.pop(blob, None)
                await _end(flight)

    async def aclose(self) -> None:
        """Cancel all downloads and see them end."""
        for flight in tuple(self._flights.values()):
            await _end(flight)


async def _end(flight: _Flight) -> None:
    flight.task.cancel()
    await asyncio.wait([flight.task])
    if not flight.task.cancelled():
        flight.task.exception()  # seen: its waiters got it
