"""Runs one scenario through the sync and the async client alike."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import httpx

from lilliput_client import AsyncClient, Client

URL = "http://127.0.0.1:1726"
Handler = Callable[[httpx.Request], httpx.Response]


class Chunks(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A response body that comes in the given pieces; an exception among them breaks the connection there."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self._pieces = pieces
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


def events(*pieces: bytes | Exception) -> httpx.Response:
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Chunks(*pieces))


def script(*answers: httpx.Response | Exception, seen: list[httpx.Request] | None = None) -> Handler:
    """A daemon that gives the answers one after the other."""
    left = iter(answers)

    def handle(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return handle


class Driver:
    """Calls a method of the client; what streams is returned as a list, the pauses taken are in ``pauses``."""

    def __init__(self, *, asynchronous: bool) -> None:
        self._asynchronous = asynchronous
        self.pauses: list[float] = []

    def __call__(self, handler: Handler, method: str, *args: Any, taking: int | None = None, **options: Any) -> Any:
        if self._asynchronous:
            return asyncio.run(self._async(handler, method, args, options, taking))
        with Client(URL, transport=httpx.MockTransport(handler), sleep=self.pauses.append) as client:
            result = getattr(client, method)(*args, **options)
            if not inspect.isgenerator(result):
                return result
            items = []
            for item in result:
                items.append(item)
                if len(items) == taking:
                    result.close()
            return items

    async def _async(
        self, handler: Handler, method: str, args: Sequence[Any], options: dict[str, Any], taking: int | None
    ) -> Any:
        async def sleep(delay_s: float) -> None:
            self.pauses.append(delay_s)

        async with AsyncClient(URL, transport=httpx.MockTransport(handler), sleep=sleep) as client:
            result = getattr(client, method)(*args, **options)
            if not inspect.isasyncgen(result):
                return await result
            items = []
            async for item in result:
                items.append(item)
                if len(items) == taking:
                    await result.aclose()
            return items
