"""The daemon-side handle of one engine."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

from lilliput.engine.meter import EngineStats, Meter
from lilliput.engine.pooled_call import PooledCall, Vectors
from lilliput.engine.process import WorkerProcess, signal_name, start_worker
from lilliput.engine.stream import EventStream
from lilliput.engine.wire import (
    Cancel,
    Done,
    DropPrefixes,
    Embed,
    Failed,
    FrameReader,
    FromWorker,
    Ping,
    Pooled,
    Progress,
    Rank,
    Ready,
    Refused,
    Start,
    Step,
    Submit,
    Text,
    ToWorker,
    encode_frame,
)
from lilliput.errors import (
    BadGrammar,
    ContextExceeded,
    DeadlineExceeded,
    EngineDied,
    EngineError,
    EngineLoadFailed,
    InputTooLong,
    InvalidRequest,
    LilliputError,
)


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """How busy an engine is: sequences running and waiting, and idle tokens kept for their prefix."""

    active: int = 0
    waiting: int = 0
    cached_tokens: int = 0


STALL_S = 30.0
"""Long enough for a process that the system has swapped out or starved to answer a ping."""

STARTING_S = 30.0
"""Least time that a worker may be silent until its model is there: it starts an interpreter and libraries first."""

PINGS = 4
"""So many pings fit into the time that a worker may be silent."""

READ_BYTES = 8 * 1024
"""Most bytes of news that are taken in before others get a turn: a worker may be faster than all of its readers."""


class Engine(asyncio.BufferedProtocol):
    """One worker process with a loaded model.

    ``start`` returns when it is ready; ``submit`` and ``cancel`` never block; when the process ends, every open stream
    fails with EngineDied and ``died`` is set. A process that owes an answer, or has not loaded its model yet, and shows
    no sign of life for ``stall_s`` is ended.
    """

    def __init__(self, start: Start, *, stall_s: float = STALL_S) -> None:
        self._start = start
        self._stall_s = stall_s
        self._heard_s = 0.0
        self._look: asyncio.TimerHandle | None = None
        self.stalled = False
        self._frames = FrameReader(FromWorker)
        self._streams: dict[int, EventStream] = {}
        self._calls: dict[int, PooledCall] = {}
        self._ids = itertools.count(1)
        self._worker: WorkerProcess | None = None
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._transport: asyncio.Transport | None = None
        self._closing = False
        self.load = EngineLoad()
        self._meter = Meter()
        self.progress = 0.0
        self.answered = 0
        self.died: asyncio.Future[EngineDied] = asyncio.get_running_loop().create_future()
        self._ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._watch: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The worker's process id, None before it was started."""
        return self._worker.pid if self._worker else None

    @property
    def alive(self) -> bool:
        """Whether requests can be submitted."""
        return self._ready.done() and not self.died.done() and not self._closing

    def stats(self) -> EngineStats | None:
        """What it does now; None as long as it has told nothing of that."""
        return self._meter.stats(self._ready.result().context_tokens) if self.alive else None

    async def start(self, worker: Awaitable[WorkerProcess] | None = None) -> Ready:
        """Start a worker, or take one that was started already, and load the model.

        Raises EngineLoadFailed when it refuses, EngineDied when it crashes.
        """
        try:
            self._worker = await (worker or start_worker())
            self._watch = asyncio.create_task(self._watch_end(self._worker))
            await _attach(self, self._worker.connection)
            self._heard_s = asyncio.get_running_loop().time()
            self._send(self._start)
            self._look_later()
            return await asyncio.shield(self._ready)
        except BaseException:
            await self.aclose()
            raise

    def submit(self, make: Callable[[int], Submit], stream: EventStream) -> int:
        """Queue a request whose events go to ``stream``; ``make`` gets its id, which is returned.

        Its first event is Accepted or Failed. Raises EngineDied when the worker has ended.
        """
        if self.died.done():
            raise self.died.result()
        request_id = next(self._ids)
        message = make(request_id)
        self._expect_news()
        self._send(message)
        self._streams[request_id] = stream
        return request_id

    async def pooled(self, make: Callable[[int], Embed | Rank]) -> Vectors:
        """What a request for vectors or scores gives; ``make`` gets its id. Ending the wait cancels the request.

        Raises EngineDied and what is wrong with the request.
        """
        if self.died.done():
            raise self.died.result()
        request_id = next(self._ids)
        self._expect_news()
        self._send(make(request_id))
        call = self._calls[request_id] = PooledCall()
        try:
            return await call.result
        finally:
            if self._calls.pop(request_id, None) is not None and not self.died.done():
                self._send(Cancel(request_id))

    def cancel(self, request_id: int) -> None:
        """Free a request's sequence; nothing happens when it has ended."""
        if self._streams.pop(request_id, None) is not None and not self.died.done():
            self._send(Cancel(request_id))

    def drop_prefixes(self) -> None:
        """Have the worker forget prefixes that no running request needs, and give their memory back."""
        if self.alive:
            self._send(DropPrefixes())

    async def aclose(self) -> None:
        """End the worker and wait until its memory is free; open streams fail."""
        self._closing = True
        if self._look is not None:
            self._look.cancel()
        if self._worker is not None:
            await self._worker.aclose()
        if self._watch is not None:
            await self._watch
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's call when the socket is attached."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class is no subclass of it

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's form
        """Asyncio's question where bytes from the worker go."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Asyncio's call for bytes from the worker."""
        self._heard_s = asyncio.get_running_loop().time()
        for message in self._frames.feed(self._buffer[:nbytes]):
            if type(message) is Step:
                self._on_step(message)
            elif isinstance(message, Pooled):
                self._on_pooled(message)
            elif isinstance(message, Progress):
                self.progress = message.fraction
            elif isinstance(message, Ready):
                self._ready.set_result(message)
            elif isinstance(message, Refused):
                self._ready.set_exception(
                    EngineLoadFailed(message.message, hint=message.hint, log_tail=tuple(message.log_tail))
                )
        if nbytes == READ_BYTES:
            self._give_way()

    def _expect_news(self) -> None:
        """From now on silence counts, if it did not before."""
        if not self._streams and not self._calls:
            self._heard_s = asyncio.get_running_loop().time()

    def _look_later(self) -> None:
        self._look = asyncio.get_running_loop().call_later(self._stall_s / PINGS, self._look_at_worker)

    def _look_at_worker(self) -> None:
        """Ping a worker that owes something and is silent; end it when it has been silent for too long."""
        if self.died.done() or self._closing or self._worker is None:
            return
        if self._streams or self._calls or not self._ready.done():
            silent_s = asyncio.get_running_loop().time() - self._heard_s
            if silent_s > self._patience_s:
                self.stalled = True
                self._worker.kill()
                return
            if silent_s > self._stall_s / PINGS / 2:
                self._send(Ping())
        self._look_later()

    @property
    def _patience_s(self) -> float:
        return self._stall_s if self._ready.done() else max(self._stall_s, STARTING_S)

    def _give_way(self) -> None:
        """There is more to read: first let those write whom this was for, and others do their work."""
        assert self._transport is not None
        self._transport.pause_reading()
        asyncio.get_running_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _on_step(self, step: Step) -> None:
        self.load = EngineLoad(step.active, step.waiting, step.cached_tokens)
        if step.counters is not None:
            self._meter.note(step.counters, step.cells)
        streams = self._streams
        for event in step.events:
            stream = streams.get(event.id)
            if stream is not None:
                if type(event) is not Text and isinstance(event, Done | Failed):
                    del streams[event.id]
                    self.answered += isinstance(event, Done)
                stream.push(event)

    def _on_pooled(self, news: Pooled) -> None:
        self.load = EngineLoad(news.active, news.waiting)
        for event in news.events:
            call = self._calls.get(event.id)
            if call is None:
                continue
            if isinstance(event, Failed) or event.last:
                del self._calls[event.id]
                self.answered += not isinstance(event, Failed)
            if isinstance(event, Failed):
                call.fail(error_of(event))
            else:
                call.add(event)

    async def _watch_end(self, worker: WorkerProcess) -> None:
        number = await worker.ended()
        stalled_s = self._patience_s if self.stalled else None
        error = _death(self._start, number, tuple(worker.log), stalled_s)
        self.load = EngineLoad()
        self.died.set_result(error)
        if not self._ready.done():
            self._ready.set_exception(error)
            self._ready.exception()  # may be read by nobody when the start was cancelled
        for stream in self._streams.values():
            stream.fail(error)
        self._streams.clear()
        for call in self._calls.values():
            call.fail(error)
        self._calls.clear()

    def _send(self, message: ToWorker) -> None:
        assert self._transport is not None
        if not self._transport.is_closing():  # else the process has gone, and all will hear of it in a moment
            self._transport.write(encode_frame(message))


async def _attach(engine: Engine, connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    if connection.family == getattr(socket, "AF_UNIX", None):
        await loop.create_unix_connection(lambda: engine, sock=connection)
    else:
        await loop.create_connection(lambda: engine, sock=connection)


def _death(start: Start, number: int | None, log: tuple[str, ...], stalled_s: float | None) -> EngineDied:
    cause = f"was ended by {signal_name(number)}" if number else "ended by itself"
    if stalled_s is not None:
        cause = f"did not react for {stalled_s:g} s and was ended"
    return EngineDied(
        f"the engine of {start.model.path} {cause}",
        hint="the next request starts it again; the daemon's log has its last lines",
        signal_number=number,
        log_tail=log,
    )


def error_of(failed: Failed) -> LilliputError:
    """The error a Failed event stands for."""
    if failed.code == ContextExceeded.code:
        return ContextExceeded(failed.prompt_tokens, failed.context_tokens)
    kinds = {kind.code: kind for kind in (InputTooLong, DeadlineExceeded, EngineError)}
    refusals = {kind.code: kind for kind in (BadGrammar, InvalidRequest)}
    if failed.code in refusals:
        return refusals[failed.code](failed.message, hint=failed.hint, param=failed.param)
    return kinds.get(failed.code, EngineError)(failed.message, hint=failed.hint)
