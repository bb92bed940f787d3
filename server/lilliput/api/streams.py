"""The one writer of streamed responses: events in, bytes out, until the end, a fault, or somebody's leaving.

A stream starts three tasks for its whole life and none per event: the pump (feed → bytes → socket), a watch on the
client and one on the server's stop. All that waits in the feed leaves in one piece, and while the socket is slow the
feed is left waiting.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lilliput.api.attention import disconnected, put_down, shutting_down
from lilliput.api.errors import Fault, told
from lilliput.api.feed import Feed, Gathered

log = logging.getLogger(__name__)

Event_contra = TypeVar("Event_contra", contravariant=True)
Event = TypeVar("Event")

SEND = "lilliput.send"
"""Where a request's scope has the server's own ``send``."""

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
        source: Feed[Event] | AsyncIterable[Event],
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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the stream; called by the framework."""
        wire = _Wire(scope.get(SEND, send))
        pump = asyncio.create_task(self._pump(wire, send))
        gone = asyncio.create_task(disconnected(receive))
        stopped = asyncio.create_task(self._around.stop.wait())
        heart = _Heart(self._framing.heartbeat, self._around.heartbeat_s, wire)
        release = asyncio.create_task(self._release(pump, gone, stopped))
        try:
            await asyncio.shield(release)
            if not pump.cancelled():
                pump.result()  # raises what nobody foresaw
            elif stopped.done() and not gone.done() and not wire.ended:
                await wire.send(self._writer.failure(told(shutting_down(), self._around.request_id)), last=True)
        except OSError:
            log.debug("the client of request %s has gone", self._around.request_id)
        finally:
            heart.stop()
            pump.cancel()
            await asyncio.shield(release)
            await put_down(gone, stopped)

    async def _release(self, pump: asyncio.Task[None], *signs: asyncio.Task[Any]) -> None:
        """When the stream has ended, or must: end the pump, free the source. Nobody's cancellation cuts this short."""
        await asyncio.wait((pump, *signs), return_when=asyncio.FIRST_COMPLETED)
        await put_down(pump)
        try:
            await self._aclose()
        except Exception:
            log.exception("request %s could not be put away", self._around.request_id)

    async def _pump(self, wire: _Wire, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if isinstance(self._source, Feed):
                await self._write(self._source, wire)
            else:
                async with Gathered(self._source) as feed:
                    await self._write(feed, wire)
        except OSError:
            log.debug("the client of request %s has gone", self._around.request_id)

    async def _write(self, feed: Feed[Event], wire: _Wire) -> None:
        writer = self._writer
        write = writer.event
        await asyncio.sleep(0)  # what is there already goes out with the opening
        body = writer.opening()
        ended = False
        while not ended:
            if body and not feed.ready:
                await wire.send(body)
                body = b""
            try:
                events, ended = await feed.take()
                body += b"".join([write(event) for event in events])
                if ended:
                    body += writer.closing()
            except Exception as error:  # whatever it is, the client must be told and the stream must end
                body += writer.failure(told(error, self._around.request_id))
                ended = True
            if body:
                await wire.send(body, last=ended)
                body = b""


class _Wire:
    """The way to the client: one message at a time, and a word on when the last one left.

    ``send`` is the server's own: a body has no need of the layers that look at the start of a response.
    """

    def __init__(self, send: Send) -> None:
        self._loop = asyncio.get_running_loop()
        self._send = send
        self._unsent = b""
        self._beating: asyncio.Task[None] | None = None
        self.ended = False
        self.last_s = self._loop.time()

    async def send(self, body: bytes, *, last: bool = False) -> None:
        """Write ``body``, and before it what an interrupted call has left; returns when there is room for more."""
        if self._beating is not None:
            await self._beating
            self._beating = None
        self._unsent += body
        self.last_s = self._loop.time()
        await self._send({"type": "http.response.body", "body": self._unsent, "more_body": not last})
        self._unsent = b""
        self.ended = last

    def beat(self, beat: bytes) -> None:
        """Write ``beat`` unless something else waits to be written."""
        if not self._unsent and not self.ended and (self._beating is None or self._beating.done()):
            self._beating = asyncio.create_task(self._send_beat(beat))

    async def _send_beat(self, beat: bytes) -> None:
        try:
            await self._send({"type": "http.response.body", "body": beat, "more_body": True})
        except OSError:
            log.debug("a client has gone that was being kept awake")


class _Heart:
    """Beats when nothing was sent for a while: one timer, moved on lazily, so that events cost only a clock."""

    def __init__(self, beat: bytes | None, every_s: float, wire: _Wire) -> None:
        self._loop = asyncio.get_running_loop()
        self._beat = beat
        self._every_s = every_s
        self._wire = wire
        self._timer = self._loop.call_later(every_s, self._due) if beat is not None else None

    def stop(self) -> None:
        """Beat no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _due(self) -> None:
        assert self._beat is not None
        idle_s = self._loop.time() - self._wire.last_s
        if idle_s >= self._every_s:
            self._wire.beat(self._beat)
            idle_s = 0.0
        self._timer = self._loop.call_later(self._every_s - idle_s, self._due)


def json_response(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response of JSON that is already encoded."""
    return Response(body, status, dict(headers or {}), "application/json")
