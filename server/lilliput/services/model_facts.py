"""What planning knows of a model, read from the headers of one variant's files, once, however many ask."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from lilliput.fit import Layout, Offer, Repacking, Shape, Traffic, layout_of, shape_of, traffic_of
from lilliput.gguf import ByteSource, FileSource, Header, Tensor, place_tensors, read_header
from lilliput.hub import OnWait, Repository
from lilliput.services.oracle import stand_in_digest

_REMEMBERED = 128


class HeaderReader(Protocol):
    """The Hub, as far as facts need it."""

    async def read_header(self, repository: Repository, path: str, *, on_wait: OnWait | None = None) -> Header:
        """The header of a file, read by range."""
        ...


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One variant as its headers tell it: ``header`` has the tensors of all its files, ``file_bytes`` is their size.

    ``digest`` is equal for all quantizations of the model; ``parts`` are the tensors of each file as they lie there.
    ``offers`` are the model's variants as they were made from these facts, by name, size and what is repacked, kept
    here because they cost some milliseconds each.
    """

    header: Header
    shape: Shape
    layout: Layout
    traffic: Traffic
    file_bytes: int
    digest: str
    parts: tuple[tuple[Tensor, ...], ...] = ()
    offers: dict[tuple[str, int, Repacking], Offer] = field(default_factory=dict, compare=False)

    @property
    def header_bytes(self) -> int:
        """What the file holds beside its tensors: the metadata and the list of tensors."""
        return self.header.data_offset_bytes

    @property
    def elements(self) -> int:
        """Numbers in all tensors."""
        return sum(tensor.element_count for tensor in self.header.tensors)

    def types_read(self) -> tuple[set[str], bool]:
        """The tensor types that a token reads of this variant or of one among the offers; whether one has experts."""
        offered = (offer.traffic for offer in self.offers.values())
        known = [self.traffic, *(traffic for traffic in offered if traffic is not None)]
        names = {name for traffic in known for name in traffic.weight_bytes}
        return names, any(traffic.expert_bytes for traffic in known)


def facts_of(headers: Sequence[Header], file_bytes: int) -> ModelFacts:
    """The facts of a model whose files have these headers, in load order; BadFile when they describe none.

    A file that was cut after its header counts as whole.
    """
    first = headers[0]
    tensors = tuple(tensor for header in headers for tensor in header.tensors)
    joined = replace(first, tensors=place_tensors((one.name, one.shape, one.type) for one in tensors))
    whole = sum(header.data_offset_bytes + header.weights_bytes for header in headers)
    shape = shape_of(first)
    return ModelFacts(
        header=joined,
        shape=shape,
        layout=layout_of(tensors, shape.block_count),
        traffic=traffic_of(first, headers[1:]),
        file_bytes=max(file_bytes, whole),
        digest=stand_in_digest(joined),
        parts=tuple(header.tensors for header in headers),
    )


def read_facts(paths: Sequence[Path]) -> ModelFacts:
    """The facts of local files, in load order; raises BadFile, NotFound, StorageError. Blocks: call it in a thread.

    Files that have not changed are not read again.
    """
    stamps = tuple(_stamp(path) for path in paths)
    return _read_facts(tuple(paths), stamps) if all(stamps) else _read_anew(paths)


@lru_cache(_REMEMBERED)
def _read_facts(paths: tuple[Path, ...], _stamps: tuple[tuple[int, int] | None, ...]) -> ModelFacts:
    return _read_anew(paths)


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes when a file is written anew; None for one that cannot be looked at."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size


def _read_anew(paths: Sequence[Path]) -> ModelFacts:
    headers = []
    for path in paths:
        with FileSource(path) as source:
            headers.append(read_header(_OpenEnded(source), name=str(path)))
    return facts_of(headers, sum(path.stat().st_size for path in paths))


class _OpenEnded:
    """A file whose length is not told, so that a header without its tensor data is read as well."""

    size_bytes = None

    def __init__(self, source: ByteSource) -> None:
        self._source = source

    def read(self, offset: int, size: int) -> bytes:
        """The ``size`` bytes at ``offset``; fewer at the end."""
        return self._source.read(offset, size)


@dataclass(slots=True, eq=False)
class _Reading:
    """Headers that are or were read, and those who want to hear when that has to wait."""

    task: asyncio.Task[ModelFacts] | None = None
    listeners: list[OnWait] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        task = self.task
        return task is not None and task.done() and (task.cancelled() or task.exception() is not None)

    def tell(self, message: str, wait_s: float) -> None:
        for listener in tuple(self.listeners):
            listener(message, wait_s)


class RemoteFacts:
    """Facts by repository, revision and file; the last ones are remembered. Used from one event loop."""

    def __init__(self, hub: HeaderReader) -> None:
        self._hub = hub
        self._readings: OrderedDict[tuple[str, str, str], _Reading] = OrderedDict()

    async def of(
        self, repository: Repository, paths: Sequence[str], file_bytes: int, on_wait: OnWait | None = None
    ) -> ModelFacts:
        """The facts of one variant; ``on_wait`` hears of pauses. Errors are those of the Hub, BadFile."""
        key = (repository.repo_id.casefold(), repository.revision, paths[0])
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
                reading.task = asyncio.create_task(self._read(repository, paths, file_bytes, reading))
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

    async def _read(
        self, repository: Repository, paths: Sequence[str], file_bytes: int, reading: _Reading
    ) -> ModelFacts:
        reads = (self._hub.read_header(repository, path, on_wait=reading.tell) for path in paths)
        headers = await asyncio.gather(*reads)
        return await asyncio.to_thread(facts_of, headers, file_bytes)


def _note_failure(task: asyncio.Task[ModelFacts]) -> None:
    """Look at the exception, which is lost without a warning when everybody who waited has gone."""
    if not task.cancelled():
        task.exception()
