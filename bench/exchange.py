"""What the benchmark and its load generator tell each other, one JSON line each way."""

from __future__ import annotations

from typing import Any

import msgspec


class Ask(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request of a client: ``body`` without what makes it a stream, which the generator adds.

    It is sent no sooner than ``not_before_s`` after the round began, and, with ``after_chunks``, when every other
    client's stream has had so many chunks of text. One that ``continues`` has only its new messages: the client's
    earlier ones and their answers come before them.
    """

    path: str
    body: dict[str, Any]
    not_before_s: float = 0.0
    after_chunks: int = 0
    continues: bool = False


class Scenario(msgspec.Struct, frozen=True):
    """A round: what each client asks, one after the other, of the server at ``port`` of loopback."""

    port: int
    clients: list[list[Ask]]
    host: str = "127.0.0.1"


class Answer(msgspec.Struct, omit_defaults=True):
    """What came of one request; times in seconds since the round began.

    ``chunk_s`` are the times at which text arrived. Token counts are the server's own (``usage``), None if it told
    none; ``decode_s`` is its own time from the first token to the last, told by this server and the bare loop only.
    """

    client: int
    number: int
    sent_s: float
    ended_s: float = 0.0
    chunk_s: list[float] = []
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    decode_s: float | None = None
    finish_reason: str | None = None
    text: str = ""
    error: str | None = None

    @property
    def tokens(self) -> int:
        """Generated tokens; the chunks of text where the server does not count."""
        return len(self.chunk_s) if self.completion_tokens is None else self.completion_tokens

    @property
    def first_s(self) -> float | None:
        """From sending to the first text, None if there was none."""
        return self.chunk_s[0] - self.sent_s if self.chunk_s else None


class Round(msgspec.Struct, omit_defaults=True):
    """A round's answers, and the seconds of processor time that generating the load took."""

    answers: list[Answer]
    generator_cpu_s: float = 0.0
