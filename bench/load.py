"""The load generator: a process of its own, so that what it costs is the same beside every server.

For each line of its input, a ``Scenario``, it plays all clients at once and prints a ``Round``.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import msgspec

from bench.exchange import Answer, Ask, Round, Scenario
from bench.sse import DONE, BadStream, Chunk, Dechunker, EventReader, read_chunk

REQUEST_TIMEOUT_S = 600.0
_READ_BYTES = 1 << 16
_ENDED = 1 << 30
"""More chunks than anybody waits for."""


class Generator:
    """Plays one scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._began = time.perf_counter()
        self._chunks = [0] * len(scenario.clients)
        self._moved = asyncio.Condition()
        self._waited_for = any(ask.after_chunks for asks in scenario.clients for ask in asks)

    async def play(self) -> list[Answer]:
        """The answers of all clients, in the order of clients and requests."""
        played = [self._client(number, asks) for number, asks in enumerate(self._scenario.clients)]
        return [answer for answers in await asyncio.gather(*played) for answer in answers]

    async def _client(self, client: int, asks: list[Ask]) -> list[Answer]:
        answers: list[Answer] = []
        history: list[dict[str, Any]] = []
        for number, ask in enumerate(asks):
            await self._wait(client, ask)
            body = dict(ask.body)
            if "messages" in body:
                history = [*history, *body["messages"]] if ask.continues else list(body["messages"])
                body["messages"] = history
            answer = Answer(client, number, self._now())
            await self._ask(ask.path, body, answer)
            answer.ended_s = self._now()
            answers.append(answer)
            history = [*history, {"role": "assistant", "content": answer.text}]
        return answers

    async def _wait(self, client: int, ask: Ask) -> None:
        if (ahead_s := ask.not_before_s - self._now()) > 0:
            await asyncio.sleep(ahead_s)
        if ask.after_chunks:
            others = [number for number in range(len(self._chunks)) if number != client]
            async with self._moved:
                await self._moved.wait_for(lambda: all(self._chunks[one] >= ask.after_chunks for one in others))

    async def _ask(self, path: str, body: dict[str, Any], answer: Answer) -> None:
        """Fill in ``answer`` from the stream; whatever goes wrong becomes its ``error``."""
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                await self._stream(path, body, answer)
        except (OSError, EOFError, TimeoutError, BadStream) as error:
            answer.error = f"{type(error).__name__}: {error}"
        if self._waited_for:
            await self._count(answer.client, _ENDED)

    async def _stream(self, path: str, body: dict[str, Any], answer: Answer) -> None:
        scenario = self._scenario
        content = msgspec.json.encode({**body, "stream": True, "stream_options": {"include_usage": True}})
        head = f"POST {path} HTTP/1.1\r\nHost: {scenario.host}:{scenario.port}\r\nContent-Type: application/json\r\n"
        reader, writer = await asyncio.open_connection(scenario.host, scenario.port)
        try:
            answer.sent_s = self._now()
            writer.write(f"{head}Content-Length: {len(content)}\r\nConnection: close\r\n\r\n".encode() + content)
            lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
            if lines[0].split()[1:2] != [b"200"]:
                said = (await reader.read(2000)).decode(errors="replace")
                raise BadStream(f"{lines[0].decode(errors='replace')}: {said}")
            await self._read(reader, Dechunker() if b"transfer-encoding: chunked" in lines else None, answer)
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader, dechunker: Dechunker | None, answer: Answer) -> None:
        events = EventReader()
        while data := await reader.read(_READ_BYTES):
            now = self._now()
            for event in events.feed(dechunker.feed(data) if dechunker else data):
                if event == DONE:
                    return
                note(read_chunk(event), answer, now)
            if self._waited_for:
                await self._count(answer.client, len(answer.chunk_s))
        raise BadStream("the stream broke off")

    async def _count(self, client: int, chunks: int) -> None:
        async with self._moved:
            self._chunks[client] = chunks
            self._moved.notify_all()

    def _now(self) -> float:
        return time.perf_counter() - self._began


def note(chunk: Chunk, answer: Answer, now_s: float) -> None:
    """Add a chunk that came at ``now_s`` to its answer; BadStream when it tells an error."""
    if chunk.error is not None:
        raise BadStream(f"the server failed: {chunk.error}")
    if text := chunk.text:
        answer.chunk_s.append(now_s)
        answer.text += text
    if chunk.choices and (reason := chunk.choices[0].finish_reason):
        answer.finish_reason = reason
    if chunk.usage:
        answer.prompt_tokens = chunk.usage.get("prompt_tokens")
        answer.completion_tokens = chunk.usage.get("completion_tokens")
        answer.cached_tokens = (chunk.usage.get("prompt_tokens_details") or {}).get("cached_tokens")
        answer.decode_s = chunk.usage.get("decode_s")


async def _play(scenario: Scenario) -> Round:
    began = time.process_time()
    return Round(await Generator(scenario).play(), time.process_time() - began)


def main() -> None:
    """Play what comes, line by line, until the input ends."""
    for line in sys.stdin.buffer:
        played = asyncio.run(_play(msgspec.json.decode(line, type=Scenario)))
        sys.stdout.buffer.write(msgspec.json.encode(played) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
