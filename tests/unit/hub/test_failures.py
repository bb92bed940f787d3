from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

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
from lilliput.hub.failures import from_status, retry_after_s
from lilliput.hub.patience import Transient


def meaning(status: int, *, has_token: bool = False, **headers: str) -> LilliputError | Transient:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return from_status(status, named, what="org/m/a.gguf", repo_id="org/m", endpoint="https://hub", has_token=has_token)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "GatedRepo", GatedRepository),
        (403, "GatedRepo", GatedRepository),
        (401, "RepoNotFound", RepositoryNotFound),
        (404, "RepoNotFound", RepositoryNotFound),
        (404, "RevisionNotFound", VariantNotFound),
        (404, "EntryNotFound", VariantNotFound),
        (404, "", VariantNotFound),
        (401, "", RepositoryNotFound),
        (403, "", AccessDenied),
        (418, "", HubError),
    ],
)
def test_each_refusal_of_the_hub_has_its_own_error_with_a_hint(
    status: int, code: str, kind: type[LilliputError]
) -> None:
    error = meaning(status, x_error_code=code)
    assert type(error) is kind
    assert error.hint


def test_a_bare_401_to_a_token_means_the_token() -> None:
    assert isinstance(meaning(401, has_token=True), BadToken)


def test_a_gated_repository_says_where_to_accept_its_terms() -> None:
    error = meaning(401, x_error_code="GatedRepo")
    assert isinstance(error, GatedRepository)
    assert error.hint is not None
    assert "https://hub/org/m" in error.hint
    assert "HF_TOKEN" in error.hint


def test_what_the_server_says_is_shown_without_control_characters() -> None:
    error = meaning(403, x_error_message="no \x1b[31mway" + "y" * 500)
    assert isinstance(error, AccessDenied)
    assert "no [31mway" in error.message
    assert len(error.message) < 300


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 408])
def test_rate_limits_and_outages_are_transient(status: int) -> None:
    outcome = meaning(status, retry_after="7")
    assert isinstance(outcome, Transient)
    assert outcome.retry_after_s == 7.0
    assert isinstance(outcome.error, RateLimited if status == 429 else HubUnreachable)


def test_retry_after_is_read_as_seconds_as_a_date_and_from_an_exhausted_rate_limit() -> None:
    assert retry_after_s({"retry-after": " 12 "}) == 12.0
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 55 < (retry_after_s({"retry-after": in_a_minute}) or 0) <= 60
    assert retry_after_s({"retry-after": "Wed, 21 Oct 2015 07:28:00 -0000"}) == 0.0
    assert retry_after_s({"ratelimit": '"resolve";r=0;t=9'}) == 9.0
    assert retry_after_s({"ratelimit": '"resolve";r=5;t=9'}) is None
    assert retry_after_s({"retry-after": "soon"}) is None
    assert retry_after_s({"retry-after": "9" * 400}) == 1e9
    assert retry_after_s({}) is None
