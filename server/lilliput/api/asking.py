"""Who asks and how long they wait: what connection and headers say of a request, whatever its dialect."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import TypeVar

from fastapi import Request

from lilliput.api.context import Context
from lilliput.errors import InvalidRequest
from lilliput.services.embed import EmbeddingRequest, RankRequest
from lilliput.services.requests import ChatRequest, CompletionRequest
from lilliput.units import parse_duration

TIMEOUT_HEADER = "x-request-timeout"
LONGEST_S = 86_400.0
"""Deadlines are at most a day."""

_KEY_DIGITS = 16

_Text = TypeVar("_Text", ChatRequest, CompletionRequest)
_Vectors = TypeVar("_Vectors", EmbeddingRequest, RankRequest)


@dataclass(frozen=True, slots=True)
class Asking:
    """``caller`` as in ``caller_of``; ``timeout_s`` is what the header says, ``default_s`` what this server does."""

    caller: str
    timeout_s: float | None
    default_s: float | None

    def deadline_s(self, own_s: float | None = None) -> float | None:
        """Seconds after which a request fails; ``own_s`` is what its body says. The shorter of header and body counts,
        the server's own only without them.
        """
        given = [one for one in (own_s, self.timeout_s) if one is not None]
        return min(given) if given else self.default_s

    def of(self, request: _Text) -> _Text:
        """The request with its caller and its deadline."""
        limits = request.limits
        return replace(
            request, limits=replace(limits, caller=self.caller, deadline_s=self.deadline_s(limits.deadline_s))
        )

    def of_vectors(self, request: _Vectors) -> _Vectors:
        """As ``of``."""
        return replace(request, caller=self.caller, deadline_s=self.deadline_s())


def asking(request: Request, given: Context) -> Asking:
    """Who asks; raises InvalidRequest for a header that is no time."""
    text = request.headers.get(TIMEOUT_HEADER)
    return Asking(caller_of(request), None if text is None else _timeout_s(text), given.request_timeout_s)


def caller_of(request: Request) -> str:
    """What tells one caller from another: its API key, by a digest, else the address that it comes from.

    What a body says of its user is not believed. Keys are not checked here, so they tell callers apart as far as those
    want it.
    """
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return f"key {hashlib.sha256(key.strip().encode()).hexdigest()[:_KEY_DIGITS]}"
    return request.client.host if request.client is not None else ""


def _timeout_s(text: str) -> float:
    """Seconds, as a number or a duration such as ``1m30s``."""
    try:
        seconds = parse_duration(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= LONGEST_S:
        raise InvalidRequest(
            f"X-Request-Timeout is {text[:40]!r}, but must be a time above 0, at most a day: 30 or 1m30s",
            param=TIMEOUT_HEADER,
        )
    return seconds
