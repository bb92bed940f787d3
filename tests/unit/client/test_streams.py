"""Streams of chats and of jobs, whole, cut and broken."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from tests.unit.client.driver import Chunks, Driver, events, script

import lilliput_client as sdk
from lilliput_client.wire import http_arguments

MESSAGES = [{"role": "user", "content": "hi"}]


def chunk(text: str | None, finish: str | None = None) -> bytes:
    body = {"model": "m", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


def snapshot(state: str, completed: int = 0, **more: Any) -> bytes:
    return b"data: " + json.dumps({"id": "j", "state": state, "completed_bytes": completed, **more}).encode() + b"\n\n"


USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}\n\n'
DONE = b"data: [DONE]\n\n"


def text(deltas: list[sdk.Delta]) -> str:
    return "".join(delta.text for delta in deltas)


def test_a_chat_is_streamed_with_its_usage_at_the_end(drive: Driver) -> None:
    seen: list[httpx.Request] = []
    answer = events(chunk(None), chunk("He"), b": heartbeat\n\n", chunk("y\u2028"), chunk(None, "stop"), USAGE, DONE)
    deltas = drive(script(answer, seen=seen), "chat_stream", "m", MESSAGES, sdk.Options(max_tokens=5))
    assert text(deltas) == "Hey\u2028"
    assert [delta.finish_reason for delta in deltas if delta.finish_reason] == ["stop"]
    assert deltas[-1].usage == sdk.Usage(3, 2, 5)
    body = json.loads(seen[0].content)
    assert (body["stream"], body["stream_options"], body["max_tokens"]) == (True, {"include_usage": True}, 5)


def test_a_stream_may_be_cut_anywhere(drive: Driver) -> None:
    whole = chunk("Grüße \u2028 \U0001f600") + USAGE + DONE
    pieces = [whole[i : i + 1] for i in range(len(whole))]
    assert text(drive(script(events(*pieces)), "chat_stream", "m", MESSAGES)) == "Grüße \u2028 \U0001f600"


def test_a_text_is_continued_in_a_stream(drive: Driver) -> None:
    answer = events(b'data: {"choices": [{"text": "a"}]}\n\ndata: {"choices": [{"text": "b"}]}\n\n', DONE)
    assert text(drive(script(answer), "complete_stream", "m", "x")) == "ab"


def test_what_follows_the_end_is_not_waited_for(drive: Driver) -> None:
    answer = events(chunk("a"), DONE, httpx.ReadError("never looked at"))
    assert text(drive(script(answer), "chat_stream", "m", MESSAGES)) == "a"


@pytest.mark.parametrize("last", [(), (httpx.ReadError("reset"),), (httpx.RemoteProtocolError("short"),)])
def test_a_stream_that_breaks_off_is_an_error(drive: Driver, last: tuple[Exception, ...]) -> None:
    with pytest.raises(sdk.ConnectionLost):
        drive(script(events(chunk("half"), *last)), "chat_stream", "m", MESSAGES)


def test_an_error_inside_the_stream_is_raised(drive: Driver) -> None:
    broken = b'data: {"error": {"message": "the engine died", "type": "server_error", "code": "engine-died"}}\n\n'
    with pytest.raises(sdk.ApiError, match="the engine died") as caught:
        drive(script(events(chunk("half"), broken, DONE)), "chat_stream", "m", MESSAGES)
    assert (caught.value.code, caught.value.status) == ("engine-died", 200)


def test_an_error_before_the_stream_is_raised(drive: Driver) -> None:
    answer = httpx.Response(404, json={"error": {"message": "no m", "code": "model-not-found"}})
    with pytest.raises(sdk.NotFound, match="no m"):
        drive(script(answer), "chat_stream", "m", MESSAGES)


def test_leaving_a_stream_closes_its_connection(drive: Driver) -> None:
    body = Chunks(chunk("a"), chunk("b"), DONE)
    assert text(drive(script(httpx.Response(200, stream=body)), "chat_stream", "m", MESSAGES, taking=1)) == "a"
    assert body.closed


def test_a_pull_is_followed_to_its_end(drive: Driver) -> None:
    stream = events(
        snapshot("running", 1), b": ping\n\n", snapshot("running", 1), snapshot("running", 2) + snapshot("done", 3)
    )
    jobs = drive(script(httpx.Response(202, json={"id": "j", "state": "queued"}), stream), "pull", "m")
    assert [(job.state, job.completed_bytes) for job in jobs] == [("running", 1), ("running", 2), ("done", 3)]
    assert drive.pauses == []


def test_a_broken_event_stream_is_taken_up_again(drive: Driver) -> None:
    answers = script(
        events(snapshot("running", 1), httpx.ReadError("reset")),
        events(snapshot("running", 1), snapshot("running", 5)),
        events(snapshot("failed", 5, error={"code": "hub-error", "message": "no"})),
    )
    jobs = drive(answers, "follow_job", "j")
    assert [(job.state, job.completed_bytes) for job in jobs] == [("running", 1), ("running", 5), ("failed", 5)]
    assert drive.pauses == [0.25, 0.25]


def test_without_events_the_job_is_asked_for(drive: Driver) -> None:
    seen: list[httpx.Request] = []
    poll = httpx.Response(200, json={"id": "j", "state": "running", "completed_bytes": 4})
    answers = script(
        events(), poll, httpx.Response(502), httpx.Response(200, json={"id": "j", "state": "done"}), seen=seen
    )
    jobs = drive(answers, "follow_job", "j")
    assert [job.state for job in jobs] == ["running", "done"]
    assert [request.url.path.endswith("/events") for request in seen] == [True, False, True, False]


def test_an_error_in_place_of_a_snapshot_leads_to_asking(drive: Driver) -> None:
    told = b'data: {"error": {"code": "internal-error", "message": "no", "hint": null}}\n\n'
    poll = httpx.Response(200, json={"id": "j", "state": "done"})
    assert [job.state for job in drive(script(events(told), poll), "follow_job", "j")] == ["done"]


def test_an_event_that_is_no_job_is_a_protocol_error(drive: Driver) -> None:
    with pytest.raises(sdk.ProtocolError):
        drive(script(events(b"data: 7\n\n")), "follow_job", "j")


def test_a_restarting_daemon_is_waited_for(drive: Driver) -> None:
    refused = [httpx.ConnectError("refused")] * 6
    jobs = drive(script(events(snapshot("running")), *refused, events(snapshot("done"))), "follow_job", "j")
    assert [job.state for job in jobs] == ["running", "done"]
    assert drive.pauses == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_patience_with_an_unreachable_daemon_ends(drive: Driver) -> None:
    with pytest.raises(sdk.DaemonUnreachable):
        drive(lambda _: (_ for _ in ()).throw(httpx.ConnectError("refused")), "follow_job", "j")
    assert 30 < sum(drive.pauses) < 60


def test_an_unknown_job_is_an_error_at_once(drive: Driver) -> None:
    with pytest.raises(sdk.NotFound):
        drive(
            script(httpx.Response(404, json={"error": {"code": "job-not-found", "message": "no j"}})), "follow_job", "j"
        )
    assert drive.pauses == []


def test_proxies_are_left_out_for_this_machine_only() -> None:
    local, remote = sdk.Client("http://127.0.0.1:1726"), sdk.Client("http://box.lan:1726")
    assert http_arguments(local.address)["trust_env"] is False
    assert http_arguments(remote.address)["trust_env"] is True
    local.close()
    remote.close()


def test_an_unknown_name_is_no_export() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        getattr(sdk, "nonsense")  # noqa: B009 - a plain attribute would be refused by the type checker
    assert all(getattr(sdk, name) is not None for name in sdk.__all__)
