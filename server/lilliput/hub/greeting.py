"""One short question to the Hub: whether it answers, whether it takes the token, what time it has."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from lilliput.hub.library import Library
from lilliput.hub.patience import Transient
from lilliput.hub.threads import detached

if TYPE_CHECKING:
    import httpx2

_WHO = "/api/whoami-v2"
"""Answers 200 to a good token, 401 without one or to a bad one. Source: the Hub's OpenAPI document."""


@dataclass(frozen=True, slots=True)
class HubAnswer:
    """What came of the question: the HTTP status, or the ``problem`` for which there is none.

    ``offline``: nothing was asked, by the user's will. ``skew_s`` is how far this machine's clock is ahead of the
    Hub's, which tells whole seconds; None where it told no time.
    """

    endpoint: str
    has_token: bool
    took_s: float
    status: int | None = None
    problem: str | None = None
    offline: bool = False
    skew_s: float | None = None


async def greet(library: Library, client: httpx2.AsyncClient, timeout_s: float) -> HubAnswer:
    """Ask once, no other host than the configured one, and wait no longer than ``timeout_s``."""
    token = await detached(library.token)
    began = time.monotonic()

    def answer(
        *, status: int | None = None, problem: str | None = None, offline: bool = False, skew_s: float | None = None
    ) -> HubAnswer:
        took_s = time.monotonic() - began
        return HubAnswer(library.endpoint, token is not None, took_s, status, problem, offline, skew_s)

    url = library.endpoint + _WHO
    try:
        async with (
            asyncio.timeout(timeout_s),
            client.stream("GET", url, headers=library.headers_for(url, token), follow_redirects=False) as response,
        ):
            return answer(status=response.status_code, skew_s=_skew_s(response.headers.get("date")))
    except TimeoutError:
        return answer(problem=f"{library.place} gives no answer within {timeout_s:g} s")
    except Exception as error:
        told = library.translate(error, "the account of the token")
        told = told.error if isinstance(told, Transient) else told
        return answer(problem=told.message, offline=_is_offline(error))


def _is_offline(error: Exception) -> bool:
    from huggingface_hub.errors import OfflineModeIsEnabled  # late: slow to import

    return isinstance(error, OfflineModeIsEnabled)


def _skew_s(date: str | None) -> float | None:
    if not date:
        return None
    try:
        return time.time() - parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
