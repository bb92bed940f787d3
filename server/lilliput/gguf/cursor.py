"""A forward-only view of a byte source that fetches in growing chunks and never past its cap."""

from __future__ import annotations

import re
import struct
from functools import cache
from typing import NoReturn

from lilliput.errors import BadFile
from lilliput.gguf.source import ByteSource

FIRST_CHUNK_BYTES = 1 << 20
LARGEST_CHUNK_BYTES = 4 << 20

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_RUN = 256


class Cursor:
    """Reads ``source`` forward from byte 0; holds one chunk at a time, and refuses to go past ``cap_bytes``.

    Every fault is a ``BadFile`` that says what was being read and at which byte.
    """

    def __init__(self, source: ByteSource, *, name: str, cap_bytes: int) -> None:
        self._source = source
        self._name = name
        self._cap_bytes = cap_bytes
        size = source.size_bytes
        self._end = cap_bytes if size is None else min(size, cap_bytes)
        self._size_bytes = size
        self._buffer = b""
        self._start = 0
        self._at = 0
        self._chunk_bytes = FIRST_CHUNK_BYTES

    @property
    def offset(self) -> int:
        """The next byte to read, counted from the start of the source."""
        return self._start + self._at

    def fail(self, what: str, *, at: int | None = None, hint: str | None = None) -> NoReturn:
        """Raise ``BadFile``: ``what`` is wrong, at byte ``at`` (default: here)."""
        place = self.offset if at is None else at
        raise BadFile(
            f"{self._name} is not a sound GGUF file: {what} (at byte {place})",
            hint=hint or "download the file again, or take another one",
        )

    def _short(self, what: str, wanted: int) -> NoReturn:
        if self.offset + wanted > self._cap_bytes:
            self.fail(f"{what} goes past the {self._cap_bytes} bytes that a header may have")
        self.fail(f"the file ends inside {what}", hint="the file is cut off: download it again")

    def need(self, size: int, what: str) -> None:
        """Have ``size`` bytes from here on in the buffer."""
        have = len(self._buffer) - self._at
        if have >= size:
            return
        begin = self.offset
        if begin + size > self._end:
            self._short(what, size)
        fetch_at = begin + have
        wanted = min(max(self._chunk_bytes, size - have), self._end - fetch_at)
        self._chunk_bytes = min(2 * self._chunk_bytes, LARGEST_CHUNK_BYTES)
        piece = self._source.read(fetch_at, wanted)
        if len(piece) < wanted:
            self._end = fetch_at + len(piece)
        piece = piece[:wanted]
        self._buffer = self._buffer[self._at :] + piece
        self._start, self._at = begin, 0
        if len(self._buffer) < size:
            self._short(what, size)

    def skip(self, size: int, what: str) -> None:
        """Pass over ``size`` bytes, fetching none beyond the buffer but the last, to know that they exist."""
        if size <= len(self._buffer) - self._at:
            self._at += size
            return
        if self.offset + size > self._end:
            self._short(what, size)
        self._start, self._at, self._buffer = self.offset + size - 1, 0, b""
        self.need(1, what)
        self._at = 1

    def take(self, size: int, what: str) -> bytes:
        """The next ``size`` bytes."""
        self.need(size, what)
        data = self._buffer[self._at : self._at + size]
        self._at += size
        return data

    def u32(self, what: str) -> int:
        """The next four bytes as an unsigned number."""
        self.need(4, what)
        value: int = _U32.unpack_from(self._buffer, self._at)[0]
        self._at += 4
        return value

    def u64(self, what: str) -> int:
        """The next eight bytes as an unsigned number."""
        self.need(8, what)
        value: int = _U64.unpack_from(self._buffer, self._at)[0]
        self._at += 8
        return value

    def unpack(self, layout: struct.Struct, what: str) -> tuple[int | float, ...]:
        """The next ``layout.size`` bytes, unpacked."""
        self.need(layout.size, what)
        values = layout.unpack_from(self._buffer, self._at)
        self._at += layout.size
        return values

    def skip_strings(self, count: int, what: str) -> None:
        """Pass over ``count`` strings (each a 64-bit length and its bytes): the hot loop of reading a vocabulary."""
        unpack, match = _U64.unpack_from, _run_of_short_strings().match
        while count:
            self.need(8, what)
            buffer, at, done = self._buffer, self._at, 0
            while count >= _RUN and (run := match(buffer, at)):
                at = run.end()
                count -= _RUN
            # A string takes at least 8 bytes, so no more than these can begin in the buffer; an error says: fewer do.
            turns = min(count, _RUN, (len(buffer) - at) // 8)
            try:
                for done in range(turns):  # noqa: B007  (read after the loop)
                    at += 8 + unpack(buffer, at)[0]
                done = turns
            except (struct.error, OverflowError):
                pass
            count -= done
            self.skip(at - self._at, what)


@cache
def _run_of_short_strings() -> re.Pattern[bytes]:
    """Matches ``_RUN`` strings of at most 63 bytes, commonest lengths first: half the time of a loop in Python."""
    lengths = sorted(range(64), key=lambda length: abs(length - 7) if length else 16)
    either = b"|".join(re.escape(_U64.pack(length)) + b".{%d}" % length for length in lengths)
    return re.compile(b"(?:%b){%d}" % (either, _RUN), re.DOTALL)
