"""The one writer of streamed responses: events in, bytes out, until the end, a fault, or somebody's leaving.

A stream starts three tasks for its whole life and none per event: the pump (source → bytes → buffer), a watch on the
client and one on the server's stop; the request's own task moves the buffer to the socket. What gathers while the
socket is slow leaves in one piece.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lilliput.api.attention import disconnected, put_down, shutting_down
from lilliput.api.errors import Fault, told

log = logging.getLogger(__name__)

Event_contra = TypeVar("Event_contra", contravariant=True)
Event = TypeVar("Event")

BUFFER_BYTES = 256 * 1024
"""How much may wait for a slow client before its source is left waiting."""
FAIR_EVENTS = 32
"""After so many events from a source that never truly waits, others get a turn."""

_encoder = msgspec.json.Encoder()
encode_json: Callable[[object], bytes] = _encoder.encode


class Writer(Protocol[Event_contra]):
    """Turns the events of one response into bytes; pure, called in order, once each for opening and the end."""

    def opening(self) -> bytes:
        """What is sent before the first event."""
        ...

    def event(self, event: Event_contra) -> bytes:
        """The bytes of one event, possibly none."""
        ...

    def closing(self) -> bytes:
        """What ends a stream whose source has ended."""
        ...

    def failure(self, fault: Fault) -> bytes:
        """What ends a stream in which something failed."""
        ...


@dataclass(frozen=True, slots=True)
class Framing:
    """A kind of stream: its content type and the bytes that keep an idle one alive (None: it has no such thing)."""

    media_type: str
    heartbeat: bytes | None


SSE = Framing("text/event-stream; charset=utf-8", b": hb\n\n")
NDJSON = Framing("application/x-ndjson", None)


def sse(data: bytes) -> bytes:
    """One server-sent event of a line of JSON."""
    return b"data: " + data + b"\n\n"


def ndjson(value: object) -> bytes:
    """One line of NDJSON, without the characters that some clients take for line ends inside strings."""
    line = _encoder.encode(value)
    if b"\xe2\x80" in line or b"\xc2\x85" in line:  # U+2028 and U+2029, U+0085: in JSON they occur only in strings
        line = line.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
        line = line.replace(b"\xc2\x85", b"\\u0085")
    return line + b"\n"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a stream must know of its server: the stop signal, the longest silence, and the id to log faults under."""

    stop: asyncio.Event
    heartbeat_s: float
    request_id: str


class StreamResponse(Response, Generic[Event]):
    """A 200 response that streams ``source`` through ``writer``; it always ends properly and frees the source.

    ``aclose`` frees what is behind ``source``; it is awaited exactly once, at once when the client has gone.
    """

    def __init__(
        self,
        source: AsyncIterable[Event],
        aclose: Callable[[], Awaitable[object]],
        writer: Writer[Event],
        framing: Framing,
        surroundings: Surroundings,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        own = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        super().__init__(None, 200, own | dict(headers or {}), framing.media_type)
        del self.headers["content-length"]
        self._source = source
        self._aclose = aclose
        self._writer = writer
        self._framing = framing
        self._around = surroundings
        self._buffer: list[bytes] = []
        self._waiting_bytes = 0
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._ended = False
        self._gone = False
        self._pumping: asyncio.Task[None] | None = None
        self._releasing: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's form
        """Serve the stream; called by the framework."""
        self._put(self._writer.opening())
        self._pumping = asyncio.create_task(self._pump())
        watches = (asyncio.create_task(self._watch_client(receive)), asyncio.create_task(self._watch_stop()))
        heart = _Heart(self._framing.heartbeat, self._around.heartbeat_s, self._put)
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            while True:
                await self._wake.wait()
                if self._gone:
                    break
                self._wake.clear()
                ended, body = self._ended, b"".join(self._buffer)
                self._buffer.clear()
                self._waiting_bytes = 0
                self._room.set()
                if body or ended:
                    heart.beaten()
                    await send({"type": "http.response.body", "body": body, "more_body": not ended})
                if ended:
                    break
        except OSError:
            log.debug("the client of request %s has gone", self._around.request_id)
        finally:
            heart.stop()
            await self._release()
            await put_down(*watches)

    async def _pump(self) -> None:
        writer = self._writer
        count = 0
        try:
            async for event in self._source:
                self._put(writer.event(event))
                count += 1
                if count % FAIR_EVENTS == 0:
                    await asyncio.sleep(0)
                while self._waiting_bytes > BUFFER_BYTES:
                    self._room.clear()
                    await self._room.wait()
            self._end(writer.closing())
        except Exception as error:  # whatever it is, the client must be told and the stream must end
            self._end(writer.failure(told(error, self._around.request_id)))

    async def _watch_client(self, receive: Receive) -> None:
        await disconnected(receive)
        self._gone = True
        await self._release()
        self._wake.set()

    async def _watch_stop(self) -> None:
        await self._around.stop.wait()
        if not self._ended:
            await self._release()
            self._end(self._writer.failure(told(shutting_down(), self._around.request_id)))

    async def _release(self) -> None:
        """Free the source; whoever asks first starts it, all wait for it, and nobody's cancellation cuts it short."""
        if self._releasing is None:
            self._releasing = asyncio.create_task(self._let_go())
        await asyncio.shield(self._releasing)

    async def _let_go(self) -> None:
        if self._pumping is not None:
            await put_down(self._pumping)
        try:
            await self._aclose()
        except Exception:
            log.exception("request %s could not be put away", self._around.request_id)

    def _put(self, data: bytes) -> None:
        if data and not self._ended:
            self._buffer.append(data)
            self._waiting_bytes += len(data)
            self._wake.set()

    def _end(self, data: bytes) -> None:
        if not self._ended:
            self._put(data)
            self._ended = True
            self._wake.set()


class _Heart:
    """Beats when nothing was sent for a while: one timer, moved on lazily, so that events cost only a clock."""

    def __init__(self, beat: bytes | None, every_s: float, put: Callable[[bytes], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._beat = beat
        self._every_s = every_s
        self._put = put
        self._last_s = self._loop.time()
        self._timer = self._loop.call_later(every_s, self._due) if beat is not None else None

    def beaten(self) -> None:
        """Something was sent."""
        self._last_s = self._loop.time()

    def stop(self) -> None:
        """Beat no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _due(self) -> None:
        assert self._beat is not None
        idle_s = self._loop.time() - self._last_s
        if idle_s >= self._every_s:
            self._put(self._beat)
            idle_s = 0.0
        self._timer = self._loop.call_later(self._every_s - idle_s, self._due)


def json_response(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response of JSON that is already encoded."""
    return Response(body, status, dict(headers or {}), "application/json")
