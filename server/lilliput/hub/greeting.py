"""One short question to the Hub: whether it answers, whether it takes the token, what time it has."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

from lilliput.hub.library import Library
from lilliput.hub.patience import Transient
from lilliput.hub.threads import detached

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


async def greet(library: Library, timeout_s: float) -> HubAnswer:
    """Ask once, no other host than the configured one, and wait no longer than ``timeout_s``."""
    began = time.monotonic()
    token = await detached(library.token)

    def answer(
        *, status: int | None = None, problem: str | None = None, offline: bool = False, skew_s: float | None = None
    ) -> HubAnswer:
        took_s = time.monotonic() - began
        return HubAnswer(library.endpoint, token is not None, took_s, status, problem, offline, skew_s)

    try:
        async with asyncio.timeout(timeout_s):  # a silent name server counts, too
            status, date = await detached(_ask, library, token, timeout_s)
    except TimeoutError:
        return answer(problem=f"{library.place} gives no answer within {timeout_s:g} s")
    except Exception as error:
        told = library.translate(error, "the account of the token")
        told = told.error if isinstance(told, Transient) else told
        return answer(problem=told.message, offline=_is_offline(error))
    return answer(status=status, skew_s=_skew_s(date))


def _ask(library: Library, token: str | None, timeout_s: float) -> tuple[int, str | None]:
    """The status and the date of the answer, whose body is not read."""
    from huggingface_hub import get_session  # late: slow to import

    url = library.endpoint + _WHO
    headers = library.headers_for(url, token)
    with get_session().stream("GET", url, headers=headers, timeout=timeout_s, follow_redirects=False) as response:
        return response.status_code, response.headers.get("date")


def _is_offline(error: Exception) -> bool:
    from huggingface_hub.errors import OfflineModeIsEnabled  # late: slow to import

    return isinstance(error, OfflineModeIsEnabled)


def _skew_s(date: str | None) -> float | None:
    if not date:
        return None
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return None
    return time.time() - (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
