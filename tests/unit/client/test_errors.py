"""What each failure becomes."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from tests.unit.client.driver import Driver, script

import lilliput_client as sdk


@pytest.mark.parametrize(
    ("status", "body", "kind", "code", "message", "hint"),
    [
        (
            404,
            {"error": {"code": "model-not-found", "message": "no m", "hint": "look"}},
            sdk.NotFound,
            "model-not-found",
            "no m",
            "look",
        ),
        (
            507,
            {"error": {"code": "does-not-fit", "message": "big", "hint": None}},
            sdk.DoesNotFit,
            "does-not-fit",
            "big",
            None,
        ),
        (
            400,
            {"error": {"message": "long", "type": "invalid_request_error", "param": None, "code": "context-exceeded"}},
            sdk.InvalidRequest,
            "context-exceeded",
            "long",
            None,
        ),
        (
            401,
            {"error": {"message": "key", "type": "authentication_error", "code": None}},
            sdk.AccessDenied,
            "authentication-error",
            "key",
            None,
        ),
        (500, {"error": "it broke"}, sdk.ApiError, "http-500", "it broke", None),
    ],
)
def test_the_daemons_error_shapes_are_all_read(
    drive: Driver, status: int, body: Any, kind: type[sdk.ApiError], code: str, message: str, hint: str | None
) -> None:
    with pytest.raises(sdk.ApiError) as caught:
        drive(script(httpx.Response(status, json=body)), "models")
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.code, error.message, error.hint) == (status, code, message, hint)


@pytest.mark.parametrize("content", [b"", b"<html>nginx</html>", b'{"detail": "Not Found"}', b'"text"', b"\xff\xfe"])
def test_a_strangers_error_says_that_it_may_be_one(drive: Driver, content: bytes) -> None:
    with pytest.raises(sdk.NotFound) as caught:
        drive(script(httpx.Response(404, content=content)), "models")
    assert caught.value.code == "http-404"
    assert "another program" in str(caught.value.hint)


@pytest.mark.parametrize(("told", "expected"), [("7", 7.0), ("Fri, 01 Jan 2027", None), (None, None)])
def test_a_busy_daemon_says_when_to_come_back(drive: Driver, told: str | None, expected: float | None) -> None:
    headers = {"retry-after": told} if told else {}
    with pytest.raises(sdk.Busy) as caught:
        drive(
            script(httpx.Response(429, headers=headers, json={"error": {"code": "busy", "message": "full"}})), "models"
        )
    assert caught.value.retry_after_s == expected


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (httpx.ConnectError("refused"), sdk.DaemonUnreachable),
        (httpx.ConnectTimeout("slow"), sdk.DaemonUnreachable),
        (httpx.ReadTimeout("silent"), sdk.ConnectionLost),
        (httpx.ReadError("reset"), sdk.ConnectionLost),
        (httpx.RemoteProtocolError("cut"), sdk.ConnectionLost),
        (httpx.UnsupportedProtocol("gopher"), sdk.InvalidAddress),
        (httpx.TooManyRedirects("round"), sdk.ProtocolError),
    ],
)
def test_a_transport_failure_keeps_its_place_in_the_tree(
    drive: Driver, raised: Exception, kind: type[Exception]
) -> None:
    with pytest.raises(sdk.LilliputClientError, match=r"127\.0\.0\.1:1726") as caught:
        drive(script(raised), "models")
    assert type(caught.value) is kind


def test_an_unreachable_daemon_comes_with_what_to_do(drive: Driver) -> None:
    with pytest.raises(sdk.DaemonUnreachable) as caught:
        drive(script(httpx.ConnectError("refused")), "models")
    assert "lilliput serve" in str(caught.value.hint)


def test_a_redirect_is_no_success(drive: Driver) -> None:
    with pytest.raises(sdk.ApiError, match="302"):
        drive(script(httpx.Response(302, headers={"location": "http://elsewhere/"})), "models")


def test_a_job_tells_how_it_ended() -> None:
    sdk.Job("j", "done").check()
    with pytest.raises(sdk.JobCancelled):
        sdk.Job("j", "cancelled").check()
    with pytest.raises(sdk.JobFailed) as caught:
        sdk.Job("j", "failed", error=sdk.JobError("disk-full", "no room", "make some")).check()
    assert (caught.value.code, caught.value.message, caught.value.hint) == ("disk-full", "no room", "make some")
    with pytest.raises(sdk.JobFailed, match="pull of m failed"):
        sdk.Job("j", "failed", model="m").check()
