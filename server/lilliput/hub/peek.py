"""Read a GGUF header from the Hub without the file: parse, and fetch each piece that the parser turns out to need."""

from __future__ import annotations

import asyncio

from lilliput.gguf import Header
from lilliput.gguf import read_header as parse_header
from lilliput.hub.patience import OnWait, Patience
from lilliput.hub.records import RemoteFile
from lilliput.hub.remote import RemoteBytes


class _Missing(Exception):
    """The parser wants bytes that were not fetched yet."""

    def __init__(self, offset: int, size: int) -> None:
        super().__init__()
        self.offset = offset
        self.size = size


class _Pieces:
    """A byte source made of what was fetched so far; asking for more raises ``_Missing``.

    The parser decides how much it asks for at a time, so it is not run on a connection: it is run again with one more
    piece, and no thread ever waits for the network.
    """

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._pieces: list[tuple[int, bytes]] = []

    @property
    def size_bytes(self) -> int | None:
        """Length of the whole file."""
        return self._size_bytes

    def read(self, offset: int, size: int) -> bytes:
        """The ``size`` bytes at ``offset``; fewer only at the end."""
        stop = min(offset + size, self._size_bytes)
        if stop <= offset:
            return b""
        for start, piece in self._pieces:
            if start <= offset and stop <= start + len(piece):
                return piece[offset - start : stop - start]
        raise _Missing(offset, stop - offset)

    def add(self, offset: int, piece: bytes) -> None:
        """Keep what was fetched."""
        self._pieces.append((offset, piece))


async def read_remote_header(
    remote: RemoteBytes, file: RemoteFile, name: str, patience: Patience, on_wait: OnWait | None
) -> Header:
    """The header of ``file``, called ``name`` in messages; the parser's own limits bound what is fetched."""
    pieces = _Pieces(file.size_bytes)
    while True:
        try:
            return await asyncio.to_thread(parse_header, pieces, name=name)
        except _Missing as missing:
            wanted = missing
        piece = await patience.persist(lambda: remote.read(wanted.offset, wanted.size), on_wait=on_wait)  # noqa: B023
        pieces.add(wanted.offset, piece)
