"""Streams on the wire: framing, ends, heartbeats, people who leave, and a server that stops."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from tests.api.conftest import Live
from tests.api.fakes import MODEL, USAGE, FakeGeneration, Fakes, spoken

from lilliput.api.streams import SSE, StreamResponse, Surroundings, ndjson
from lilliput.services.requests import ChoiceFinished, TextDelta

CHAT = {"model": MODEL.name, "messages": [{"role": "user", "content": "hi"}], "stream": True}


def raw_request(live: Live, body: dict[str, Any]) -> socket.socket:
    """A connection on which a chat has been asked for and nothing was read."""
    parts = urlsplit(live.url)
    assert parts.hostname is not None
    connection = socket.create_connection((parts.hostname, parts.port or 80))
    content = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {len(content)}\r\n\r\n"
    connection.sendall(head.encode() + content)
    return connection


def test_the_exact_bytes_of_a_stream(live: Live, fakes: Fakes) -> None:
    fakes.generator.steps = [*spoken('a"\n'), USAGE]
    answer = httpx.post(f"{live.url}/v1/chat/completions", json={**CHAT, "stream_options": {"include_usage": True}})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert "content-length" not in answer.headers
    first = json.loads(answer.text.split("\n\n")[0].removeprefix("data: "))
    head = f'"id":"{first["id"]}","object":"chat.completion.chunk","created":{first["created"]},"model":"{MODEL.name}"'
    none = '"logprobs":null,"finish_reason":null}],"usage":null}'
    usage = '{"prompt_tokens":12,"completion_tokens":3,"total_tokens":15,"prompt_tokens_details":{"cached_tokens":8},'
    usage += '"completion_tokens_details":{"accepted_prediction_tokens":5,"rejected_prediction_tokens":2},'
    usage += '"discarded_tokens":0,"load_s":0.5,"prefill_s":0.1,"decode_s":0.2}'
    assert answer.text == (
        f'data: {{{head},"choices":[{{"index":0,"delta":{{"role":"assistant","content":""}},{none}\n\n'
        f'data: {{{head},"choices":[{{"index":0,"delta":{{"content":"a\\"\\n"}},{none}\n\n'
        f'data: {{{head},"choices":[{{"index":0,"delta":{{}},"logprobs":null,"finish_reason":"stop"}}],'
        '"usage":null}\n\n'
        f'data: {{{head},"choices":[],"usage":{usage}}}\n\n'
        "data: [DONE]\n\n"
    )


def test_a_silent_stream_beats(live: Live, fakes: Fakes) -> None:
    fakes.generator.steps = [0.3, *spoken("late"), USAGE]
    text = httpx.post(f"{live.url}/v1/chat/completions", json=CHAT).text
    assert 2 <= text.count(": hb\n\n") <= 8
    assert "late" in text


def test_a_busy_stream_does_not_beat(live: Live, fakes: Fakes) -> None:
    steps: list[Any] = []
    for _ in range(20):
        steps += [0.01, TextDelta(0, "x")]
    fakes.generator.steps = steps
    assert ": hb" not in httpx.post(f"{live.url}/v1/chat/completions", json=CHAT).text


def test_a_reader_who_leaves_frees_the_answer_at_once(live: Live, fakes: Fakes) -> None:
    fakes.generator.steps = [TextDelta(0, "x"), None]
    connection = raw_request(live, CHAT)
    assert b"200 OK" in connection.recv(4096)
    connection.close()
    assert live.wait_until(lambda: fakes.generator.made[0].closed, 2) < 0.1


def test_one_who_waits_for_a_whole_answer_and_leaves_frees_it_at_once(live: Live, fakes: Fakes) -> None:
    fakes.generator.steps = [TextDelta(0, "x"), None]
    connection = raw_request(live, {**CHAT, "stream": False})
    live.wait_until(lambda: bool(fakes.generator.made and fakes.generator.made[0].played == 2), 2)
    connection.close()
    assert live.wait_until(lambda: fakes.generator.made[0].closed, 2) < 0.1


@pytest.mark.parametrize("stream", [True, False])
def test_one_who_leaves_before_the_prompt_is_accepted_takes_it_back(live: Live, fakes: Fakes, stream: bool) -> None:
    fakes.generator.accept_s = None
    connection = raw_request(live, {**CHAT, "stream": stream})
    live.wait_until(lambda: bool(fakes.generator.asked), 2)
    connection.close()
    assert live.wait_until(lambda: fakes.generator.abandoned == 1, 2) < 0.1


def test_a_slow_reader_gets_everything_and_holds_nobody_up(live: Live, fakes: Fakes) -> None:
    count = 40_000
    fakes.generator.steps = [*(TextDelta(0, f"{i} " * 20) for i in range(count)), ChoiceFinished(0, "stop", count)]
    connection = raw_request(live, CHAT)
    time.sleep(0.5)
    made = fakes.generator.made[0]
    assert made.played < count, "the source must wait for the reader"
    assert not made.closed
    assert httpx.get(f"{live.url}/health/live", timeout=1).status_code == 200
    received = bytearray()
    while not received.endswith(b"0\r\n\r\n"):
        received += connection.recv(1 << 20)
    connection.close()
    texts = received.count(b'"delta":{"content":"')
    assert texts == count
    assert b"[DONE]" in received[-64:]


def test_a_source_that_never_waits_leaves_others_their_turn(live: Live, fakes: Fakes) -> None:
    fakes.generator.steps = [TextDelta(0, "x")] * 200_000
    thread = threading.Thread(target=lambda: httpx.post(f"{live.url}/v1/chat/completions", json=CHAT, timeout=60))
    thread.start()
    live.wait_until(lambda: bool(fakes.generator.made), 5)
    started = time.monotonic()
    assert httpx.get(f"{live.url}/health/live").status_code == 200
    waited_s = time.monotonic() - started
    thread.join()
    assert waited_s < 0.5


@pytest.mark.parametrize("stream", [True, False])
def test_open_answers_end_when_the_server_stops(live: Live, fakes: Fakes, stream: bool) -> None:
    fakes.generator.steps = [TextDelta(0, "x"), None]
    answers: list[httpx.Response] = []
    body = {**CHAT, "stream": stream}
    thread = threading.Thread(target=lambda: answers.append(httpx.post(f"{live.url}/v1/chat/completions", json=body)))
    thread.start()
    live.wait_until(lambda: bool(fakes.generator.made and fakes.generator.made[0].played == 2), 2)
    live.stop()
    thread.join(1)
    assert not thread.is_alive()
    (answer,) = answers
    assert "shutting_down" in answer.text
    assert fakes.generator.made[0].closed
    if stream:
        assert answer.text.endswith("data: [DONE]\n\n")
    else:
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


def test_ndjson_escapes_what_clients_take_for_line_ends() -> None:
    line = ndjson({"text": "a\u2028b\u2029c\u0085d\u2026e\n"})
    assert line == b'{"text":"a\\u2028b\\u2029c\\u0085d\xe2\x80\xa6e\\n"}\n'
    assert json.loads(line) == {"text": "a\u2028b\u2029c\u0085d\u2026e\n"}


class PlainWriter:
    def opening(self) -> bytes:
        return b"<"

    def event(self, event: object) -> bytes:
        return str(event).encode()

    def closing(self) -> bytes:
        return b">"

    def failure(self, fault: object) -> bytes:
        return b"!"


async def test_a_send_that_fails_and_a_cancelled_request_free_the_source() -> None:
    for failure in (OSError("gone"), None):
        generation = FakeGeneration([None])
        response = StreamResponse(
            generation, generation.aclose, PlainWriter(), SSE, Surroundings(asyncio.Event(), 15.0, "req")
        )
        sent = asyncio.Event()

        async def send(message: Any, failure: Exception | None = failure, sent: asyncio.Event = sent) -> None:
            sent.set()
            if failure is not None:
                raise failure

        async def receive() -> Any:
            await asyncio.Event().wait()

        task = asyncio.create_task(response({"type": "http"}, receive, send))
        await sent.wait()
        if failure is None:
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            await task
        assert generation.closed


async def test_what_gathers_while_the_reader_is_slow_leaves_in_one_piece() -> None:
    async def source() -> AsyncIterator[int]:
        for number in range(10):
            yield number

    bodies: list[bytes] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            bodies.append(message["body"])
        await asyncio.sleep(0)

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def nothing() -> None:
        return

    around = Surroundings(asyncio.Event(), 15.0, "req")
    await StreamResponse(source(), nothing, PlainWriter(), SSE, around)({"type": "http"}, receive, send)
    assert b"".join(bodies) == b"<0123456789>"
    assert len(bodies) <= 2
