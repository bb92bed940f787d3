from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from bench.exchange import Answer, Ask, Scenario
from bench.load import Generator, note
from bench.sse import BadStream, read_chunk

Reply = Callable[[dict[str, Any]], list[dict[str, Any]]]


@asynccontextmanager
async def _server(reply: Reply, seen: list[dict[str, Any]]) -> AsyncIterator[int]:
    """A server that streams what ``reply`` makes of each body, one chunk of the transfer coding an event."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
        body = json.loads(await reader.readexactly(length))
        seen.append(body)
        events = [json.dumps(chunk) for chunk in reply(body)] + ["[DONE]"]
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for event in events:
            data = f"data: {event}\n\n".encode()
            writer.write(b"%x\r\n%b\r\n" % (len(data), data))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def _words(*words: str) -> list[dict[str, Any]]:
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 2}, "decode_s": 0.5}
    chunks: list[dict[str, Any]] = [{"choices": [{"delta": {"content": word}}]} for word in words]
    return [*chunks, {"choices": [{"delta": {}, "finish_reason": "length"}]}, {"choices": [], "usage": usage}]


async def _play(reply: Reply, clients: list[list[Ask]]) -> tuple[list[Answer], list[dict[str, Any]]]:
    seen: list[dict[str, Any]] = []
    async with _server(reply, seen) as port:
        playing: Awaitable[list[Answer]] = Generator(Scenario(port, clients)).play()
        return await asyncio.wait_for(playing, 20), seen


def _ask(text: str, **more: Any) -> Ask:
    return Ask("/v1/chat/completions", {"messages": [{"role": "user", "content": text}]}, **more)


async def test_tokens_come_from_usage_and_times_from_the_chunks_of_text() -> None:
    (answer,), seen = await _play(lambda _: _words("one", " two"), [[_ask("hello")]])
    assert (answer.tokens, len(answer.chunk_s), answer.text, answer.finish_reason) == (5, 2, "one two", "length")
    assert (answer.cached_tokens, answer.decode_s, answer.error) == (2, 0.5, None)
    assert answer.first_s is not None
    assert 0 <= answer.first_s <= answer.ended_s - answer.sent_s
    assert seen[0]["stream_options"] == {"include_usage": True}


async def test_a_later_turn_brings_the_earlier_ones_and_their_answers() -> None:
    _, seen = await _play(lambda _: _words("yes"), [[_ask("first"), _ask("second", continues=True)]])
    assert [message["content"] for message in seen[1]["messages"]] == ["first", "yes", "second"]


async def test_a_request_waits_until_the_others_stream() -> None:
    answers, _ = await _play(lambda _: _words("a", "b", "c"), [[_ask("stream")], [_ask("late", after_chunks=3)]])
    assert answers[1].sent_s >= answers[0].chunk_s[2]


async def test_a_request_waits_for_its_time() -> None:
    (answer,), _ = await _play(lambda _: _words("a"), [[_ask("late", not_before_s=0.05)]])
    assert answer.sent_s >= 0.05


async def test_an_error_in_the_stream_is_the_answers_error() -> None:
    answers, _ = await _play(lambda _: [{"error": {"message": "no room"}}], [[_ask("hello")]])
    assert answers[0].error is not None
    assert "no room" in answers[0].error


async def test_nobody_waits_for_a_stream_that_failed() -> None:
    def reply(body: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"error": "no"}] if "bad" in str(body) else _words("a")

    answers, _ = await _play(reply, [[_ask("bad")], [_ask("late", after_chunks=3)]])
    assert [answer.error is None for answer in answers] == [False, True]


async def test_a_refused_connection_is_the_answers_error() -> None:
    async with _server(lambda _: [], []) as port:
        pass
    (answer,) = await Generator(Scenario(port, [[_ask("hello")]])).play()
    assert answer.error is not None


def test_a_stream_that_tells_an_error_raises() -> None:
    with pytest.raises(BadStream):
        note(read_chunk(b'{"error":{"code":500}}'), Answer(0, 0, 0.0), 1.0)
