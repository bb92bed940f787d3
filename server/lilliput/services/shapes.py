"""The shapes of models on the Hub, each read from its file's header once, however many ask."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Protocol

from lilliput.fit import Shape, shape_of
from lilliput.gguf import Header
from lilliput.hub import OnWait, Repository

_REMEMBERED = 256


class HeaderReader(Protocol):
    """The Hub, as far as shapes need it."""

    async def read_header(self, repository: Repository, path: str, *, on_wait: OnWait | None = None) -> Header:
        """The header of a file, read by range."""
        ...


@dataclass(slots=True, eq=False)
class _Reading:
    """A header that is or was read, and those who want to hear when that has to wait."""

    task: asyncio.Task[Shape] | None = None
    listeners: list[OnWait] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        task = self.task
        return task is not None and task.done() and (task.cancelled() or task.exception() is not None)

    def tell(self, message: str, wait_s: float) -> None:
        for listener in tuple(self.listeners):
            listener(message, wait_s)


class Shapes:
    """Shapes by repository, revision and file; the last ones are remembered. Used from one event loop."""

    def __init__(self, hub: HeaderReader) -> None:
        self._hub = hub
        self._readings: OrderedDict[tuple[str, str, str], _Reading] = OrderedDict()

    async def of(self, repository: Repository, path: str, on_wait: OnWait | None = None) -> Shape:
        """The shape that a file's header tells; ``on_wait`` hears of pauses. Errors are those of the Hub, BadFile."""
        key = (repository.repo_id.casefold(), repository.revision, path)
        reading = self._readings.get(key)
        if reading is None or reading.failed:
            reading = self._readings[key] = _Reading()
            if len(self._readings) > _REMEMBERED:
                self._readings.popitem(last=False)
        self._readings.move_to_end(key)
        if on_wait is not None:
            reading.listeners.append(on_wait)
        try:
            if reading.task is None:
                reading.task = asyncio.create_task(self._read(repository, path, reading))
                reading.task.add_done_callback(_note_failure)
            return await asyncio.shield(reading.task)  # one who goes away does not end it for the others
        finally:
            if on_wait is not None:
                reading.listeners.remove(on_wait)

    async def aclose(self) -> None:
        """Stop reading headers."""
        tasks = [reading.task for reading in self._readings.values() if reading.task is not None]
        self._readings.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, repository: Repository, path: str, reading: _Reading) -> Shape:
        return shape_of(await self._hub.read_header(repository, path, on_wait=reading.tell))


def _note_failure(task: asyncio.Task[Shape]) -> None:
    """Look at the exception, which is lost without a warning when everybody who waited has gone."""
    if not task.cancelled():
        task.exception()
