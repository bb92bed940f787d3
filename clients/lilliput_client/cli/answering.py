"""One answer, written as it comes, and what it took."""

from __future__ import annotations

import sys
import time
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from lilliput_client import Client, Options, Usage
from lilliput_client.cli import formats


@dataclass(frozen=True, slots=True)
class Told:
    """An answer; times in seconds from the request, ``stopped`` if Ctrl-C ended it."""

    model: str
    text: str
    finish_reason: str | None
    stopped: bool
    usage: Usage | None
    first_token_s: float | None
    total_s: float

    @property
    def tokens_per_s(self) -> float | None:
        """The rate of decoding: the daemon's own measure, else what was seen from here."""
        if self.usage is None or self.first_token_s is None:
            return None
        if self.usage.decode_s:
            return self.usage.completion_tokens / self.usage.decode_s
        seen_s = self.total_s - self.first_token_s
        return (self.usage.completion_tokens - 1) / seen_s if seen_s > 0 and self.usage.completion_tokens > 1 else None


def answer(
    client: Client, model: str, messages: Sequence[Mapping[str, str]], options: Options, *, silent: bool = False
) -> Told:
    """Ask, write the answer to stdout while it comes (unless ``silent``), and return it; Ctrl-C keeps what is there."""
    started = time.perf_counter()
    first_token_s: float | None = None
    pieces: list[str] = []
    finish_reason: str | None = None
    usage: Usage | None = None
    stopped = False
    answered_by = model
    try:
        with closing(client.chat_stream(model, messages, options)) as deltas:
            for delta in deltas:
                if delta.text:
                    first_token_s = first_token_s or time.perf_counter() - started
                    pieces.append(delta.text)
                    if not silent:
                        _write(delta.text)
                finish_reason = delta.finish_reason or finish_reason
                usage = delta.usage or usage
                answered_by = delta.model or answered_by
    except KeyboardInterrupt:
        stopped = True
    finally:
        if pieces and not silent and not pieces[-1].endswith("\n"):
            _write("\n")
    total_s = time.perf_counter() - started
    return Told(answered_by, "".join(pieces), finish_reason, stopped, usage, first_token_s, total_s)


def statistics(told: Told) -> str:
    """Token counts, first token and rate in one line."""
    parts = []
    if told.usage is not None:
        cached = told.usage.prompt_tokens_details.cached_tokens if told.usage.prompt_tokens_details else 0
        parts.append(f"prompt {told.usage.prompt_tokens} tokens" + (f" ({cached} cached)" if cached else ""))
        parts.append(f"answer {told.usage.completion_tokens} tokens")
    if told.first_token_s is not None:
        parts.append(f"first token {told.first_token_s:.2f} s")
    rate = told.tokens_per_s
    parts.append(f"{rate:.1f} tokens/s" if rate is not None else f"{formats.UNKNOWN} tokens/s")
    parts.append(f"total {told.total_s:.2f} s")
    return ", ".join(parts)


def _write(text: str) -> None:
    sys.stdout.write(harmless(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def harmless(text: str) -> str:
    """The text without control characters, with which a model could drive a terminal."""
    return "".join(sign for sign in text if sign in "\n\t" or unicodedata.category(sign) != "Cc")
