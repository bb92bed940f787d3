"""Server-sent events from bytes, however the network cuts them (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

import re
from collections.abc import Iterator

_LINE_END = re.compile(rb"\r\n|\n|\r")  # only these: U+2028 and its like may stand inside JSON


class SseDecoder:
    """Takes chunks and yields the data of each complete event; comments (heartbeats) and other fields are skipped."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._first = True

    def feed(self, chunk: bytes) -> Iterator[str]:
        """The data of the events that ``chunk`` completes, as text; bytes that are not UTF-8 become U+FFFD."""
        if self._first and chunk:
            chunk, self._first = chunk.removeprefix(b"\xef\xbb\xbf"), False
        buffered = self._rest + chunk
        held = b"\r" if buffered.endswith(b"\r") else b""  # may be the first half of \r\n
        *lines, rest = _LINE_END.split(buffered[: len(buffered) - len(held)])
        self._rest = rest + held
        for line in lines:
            if line:
                self._field(line)
            elif self._data:
                data, self._data = b"\n".join(self._data), []
                yield data.decode("utf-8", "replace")

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
