"""Reading streamed completions from bytes: chunked transfer coding, server-sent events, the chunks of OpenAI's form."""

from __future__ import annotations

from typing import Any

import msgspec

DONE = b"[DONE]"


class BadStream(Exception):
    """The bytes are no proper stream; the message says what was seen."""


class Dechunker:
    """Undoes HTTP's chunked transfer coding, however the bytes are cut."""

    def __init__(self) -> None:
        self._held = b""
        self._missing = 0
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether the last chunk has come."""
        return self._ended

    def feed(self, data: bytes) -> bytes:
        """The content in ``data`` and what was held back before it; BadStream when a size is no number."""
        held, parts = self._held + data, []
        while held and not self._ended:
            if self._missing > 2:
                part = held[: self._missing - 2]
                parts.append(part)
                held, self._missing = held[len(part) :], self._missing - len(part)
            elif self._missing:
                dropped = min(self._missing, len(held))
                held, self._missing = held[dropped:], self._missing - dropped
            else:
                line, found, rest = held.partition(b"\r\n")
                if not found:
                    break
                size = _size(line)
                held, self._ended, self._missing = rest, size == 0, size + 2
        self._held = held
        return b"".join(parts)


class EventReader:
    """Cuts a stream into the data of its events; comments and other fields are left out."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The data of the lines that are complete now."""
        lines = (self._held + data).split(b"\n")
        self._held = lines.pop()
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]


class Delta(msgspec.Struct):
    """What a chat's chunk adds."""

    content: str | None = None


class Choice(msgspec.Struct):
    """A choice of a chunk: ``delta`` in chats, ``text`` in completions."""

    delta: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class Chunk(msgspec.Struct):
    """A chunk as servers that speak OpenAI's dialect send it; ``error`` where they fail in the middle."""

    choices: list[Choice] = []
    usage: dict[str, Any] | None = None
    error: Any = None

    @property
    def text(self) -> str:
        """The text it adds."""
        choice = self.choices[0] if self.choices else Choice()
        return (choice.delta.content if choice.delta else choice.text) or ""


_DECODER = msgspec.json.Decoder(Chunk)


def read_chunk(data: bytes) -> Chunk:
    """The chunk that an event's data are; BadStream when they are not."""
    try:
        return _DECODER.decode(data)
    except msgspec.DecodeError as error:
        raise BadStream(f"no chunk: {data[:200]!r} ({error})") from None


def _size(line: bytes) -> int:
    try:
        return int(line.partition(b";")[0], 16)
    except ValueError:
        raise BadStream(f"no size of a chunk: {line[:80]!r}") from None
