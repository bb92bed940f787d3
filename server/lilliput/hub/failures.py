"""What went wrong, in our own errors: exceptions and answers of the Hub and the CDN."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from lilliput.errors import (
    AccessDenied,
    BadToken,
    GatedRepository,
    HubError,
    HubUnreachable,
    LilliputError,
    RateLimited,
    RepositoryNotFound,
    VariantNotFound,
)
from lilliput.hub.patience import Transient

_RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
_RATE_LIMIT = re.compile(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d+)")
_MOST_RETRY_AFTER_S = 10**9


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by ``Retry-After`` (seconds or a date), else by an exhausted ``RateLimit``; None without both.

    Sources: RFC 9110 section 10.2.3, draft-ietf-httpapi-ratelimit-headers-09.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(min(int(value[:10]), _MOST_RETRY_AFTER_S))
    if value:
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, (moment - datetime.now(UTC)).total_seconds())
    match = _RATE_LIMIT.search(headers.get("ratelimit", ""))
    return float(min(int(match[1][:10]), _MOST_RETRY_AFTER_S)) if match else None


def unreachable(place: str, reason: str) -> HubUnreachable:
    """``place`` (the Hub or a file server) gives no answer."""
    return HubUnreachable(
        f"{place} cannot be reached: {reason}",
        hint="check the network connection and HF_ENDPOINT; what was already downloaded is kept",
    )


def offline(endpoint: str) -> HubUnreachable:
    """The user switched the Hub off."""
    return HubUnreachable(
        f"the Hub at {endpoint} is not asked: offline mode is on",
        hint="unset HF_HUB_OFFLINE, or use a model that is already installed",
    )


def missing(repo_id: str, *, has_token: bool) -> RepositoryNotFound:
    """The Hub shows no such repository."""
    remedy = "check that the token in HF_TOKEN may read it" if has_token else "if it is private, set HF_TOKEN"
    return RepositoryNotFound(f"the Hub has no repository {repo_id}", hint=f"check the spelling; {remedy}")


def gated(repo_id: str, endpoint: str, *, has_token: bool) -> GatedRepository:
    """The repository's terms were not accepted by the token's owner."""
    accept = f"accept its terms at {endpoint}/{repo_id}"
    token = (
        "the token in HF_TOKEN must belong to that account" if has_token else "set HF_TOKEN to a token of that account"
    )
    return GatedRepository(
        f"{repo_id} is gated: its files are for people who accepted its terms", hint=f"{accept}; {token}"
    )


def bad_token(endpoint: str) -> BadToken:
    """The token itself is refused."""
    return BadToken(
        f"the Hub at {endpoint} does not accept the token",
        hint=f"set HF_TOKEN to a valid token (see {endpoint}/settings/tokens), or unset it",
    )


def _absent(message: str) -> VariantNotFound:
    return VariantNotFound(message, hint="check the name, and the branch, tag or commit, on the repository's page")


def _forbidden(what: str, said: str) -> AccessDenied:
    reason = f" ({''.join(filter(str.isprintable, said))[:200]})" if said else ""
    return AccessDenied(f"the Hub refuses access to {what}{reason}", hint="check what the token in HF_TOKEN may read")


def from_status(
    status: int, headers: Mapping[str, str], *, what: str, repo_id: str, endpoint: str, has_token: bool
) -> LilliputError | Transient:
    """The error for an answer of the Hub's own origin to a request for ``what``; Transient when trying again may help.

    ``headers`` must be found in lower case. Codes: the ``X-Error-Code`` header that the Hub sends.
    """
    known = {
        "GatedRepo": gated(repo_id, endpoint, has_token=has_token),
        "RepoNotFound": missing(repo_id, has_token=has_token),
        "RevisionNotFound": _absent(f"the Hub has no such revision: {what}"),
        "EntryNotFound": _absent(f"the Hub has no such file: {what}"),
        # Without a code the Hub means the token when there is one, and hides the repository when there is none.
        401: bad_token(endpoint) if has_token else missing(repo_id, has_token=False),
        403: _forbidden(what, headers.get("x-error-message", "")),
        404: _absent(f"the Hub has no {what}"),
    }
    error = known.get(headers.get("x-error-code", "")) or known.get(status)
    if error is not None:
        return error
    return from_any_status(status, headers, what=what, place=f"the Hub at {endpoint}")


def from_any_status(status: int, headers: Mapping[str, str], *, what: str, place: str) -> LilliputError | Transient:
    """The error for an answer that says nothing about the repository: rate limits, outages, and what nobody expects."""
    asked_s = retry_after_s(headers)
    if status == 429:
        error = RateLimited(
            f"{place} asks to slow down (status 429 for {what})",
            retry_after_s=asked_s,
            hint="wait and try again; a token in HF_TOKEN raises the limit",
        )
        return Transient(error, retry_after_s=asked_s)
    if status in _RETRIED_STATUSES:
        failed = HubUnreachable(f"{place} answers {status} for {what}", hint="the service has a fault; try again later")
        return Transient(failed, retry_after_s=asked_s)
    return HubError(
        f"{place} answers {status} for {what}", hint="try again later; if it stays, the repository may be damaged"
    )
