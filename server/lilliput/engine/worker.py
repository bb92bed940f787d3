"""The engine worker: a process that owns one model, one context and the loop.

Two threads: this module's reader takes frames, tokenizes and compiles grammars (the library releases the interpreter
during a forward pass, and while it loads); the main thread loads the model and runs the loop. The process ends when the
daemon's end of the socket closes.
"""

from __future__ import annotations

import argparse
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from lilliput.children import end_with_parent
from lilliput.engine.embedder import Embedder, Job
from lilliput.engine.embedder_intake import JobIntake, warm_up
from lilliput.engine.heap import give_back
from lilliput.engine.prefix_files import PrefixFiles, file_identity
from lilliput.engine.prefix_store import PrefixStore
from lilliput.engine.request import Intake, Request
from lilliput.engine.runner import IDLE_SHARE, Runner
from lilliput.engine.scheduler import SchedulerLimits
from lilliput.engine.transport import SECRET_BYTES, connect
from lilliput.engine.wire import (
    Cancel,
    Draft,
    DropPrefixes,
    Embed,
    Failed,
    FrameReader,
    FromWorker,
    Ping,
    Pong,
    Pooled,
    Progress,
    Rank,
    Ready,
    Refused,
    Start,
    Step,
    Submit,
    ToWorker,
    encode_frame,
)
from lilliput.errors import EngineLoadFailed
from lilliput.hardware import read_cpu
from lilliput.llama import Buffers
from lilliput.llama.batch import Batch
from lilliput.llama.buffers import parse_buffers
from lilliput.llama.context import Context
from lilliput.llama.embeddings import PooledContext
from lilliput.llama.library import LibraryLog, start_library, system_info
from lilliput.llama.model import Model
from lilliput.llama.rungs import apply

_READ_BYTES = 1 << 16
_PROGRESS_STEP = 0.01
REPORT_INTERVAL_S = 0.05
"""Least time between two frames of news where the computing threads hold every core."""


def main() -> None:
    """Entry point: ``python -m lilliput.engine.worker --connect fd:N|port:N``."""
    parser = argparse.ArgumentParser(prog="lilliput.engine.worker")
    parser.add_argument("--connect", required=True)
    argument = parser.parse_args().connect
    end_with_parent()
    greeting = b"" if argument.startswith("fd:") else sys.stdin.buffer.read(SECRET_BYTES)
    # The daemon ends its workers itself; a Ctrl-C at the terminal is meant for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker = _Worker(connect(argument, greeting))
    worker.serve()


def report_interval_s(threads: int, cores: int) -> float:
    """Seconds between frames of news: 0, one a step, where a core is left for those who read them.

    Else each frame makes daemon and client take a core from the computing threads (33 a second cost 4 % of the rate of
    a 135M model on two cores), and nobody sees the difference between one token every 10 ms and five every 50.
    """
    return 0.0 if threads < cores else REPORT_INTERVAL_S


class _Loop(Protocol):
    """What does the work of a worker's role: a Runner, or an Embedder for jobs that are to be pooled."""

    @property
    def has_work(self) -> bool: ...

    @property
    def urgent(self) -> bool: ...

    def submit(self, work: Any, /) -> None: ...

    def refuse(self, event: Failed, /) -> None: ...

    def cancel(self, request_id: int, /) -> None: ...

    def computes_prompt_of(self, request_id: int, /) -> bool: ...

    def drop_prefixes(self) -> None: ...

    def news(self) -> Step | Pooled: ...

    def step(self) -> None: ...


_Message = Request | Job | Failed | Cancel | DropPrefixes
"""What the reader thread hands to the loop."""

_Read = Callable[[Any], Request | Job | Failed]
"""From a submission to the work it asks for, or to what is wrong with it."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """What is there when the model is loaded."""

    runner: _Loop
    read: _Read
    context: Context


class _Worker:
    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._frames = FrameReader(ToWorker)
        self._sending = threading.Lock()
        self._told = 0.0
        self._reported_at_s = 0.0
        self._interval_s = 0.0
        self._inbox: queue.SimpleQueue[_Message] = queue.SimpleQueue()
        self._loaded: Future[_Parts] = Future()

    def serve(self) -> None:
        first, *early = self._receive()
        assert isinstance(first, Start)
        try:
            apply(first.model.rung)  # before the library starts threads and asks what it may use
            threading.Thread(target=self._read, args=(early,), daemon=True).start()
            self._run(first, start_library())
        except EngineLoadFailed as error:
            self._send(Refused(error.message, error.hint, list(start_library().lines)[-20:]))

    def _run(self, start: Start, log: LibraryLog) -> None:
        lines: list[str] = []
        log.on_line = lines.append
        began = time.perf_counter()
        threads = max(start.context.threads, start.context.batch_threads)
        self._interval_s = report_interval_s(threads, read_cpu().usable_cores)
        kind = Context if start.role == "generate" else PooledContext
        with ExitStack() as owned:
            model = owned.enter_context(Model(start.model, self._tell_progress))
            context = owned.enter_context(kind(model, start.context))
            runner, read = (
                _pooling(context, start)
                if isinstance(context, PooledContext)
                else _generating(context, start, parse_buffers(lines))
            )
            log.on_line = None
            buffers = parse_buffers(lines)
            if isinstance(runner, Runner) and start.draft is not None:
                runner.draft_with(_draft_context(model, start.draft, start.warm_tokens, owned), start.draft.context)
            self._loaded.set_result(_Parts(runner, read, context))
            self._send(_ready(model, context, time.perf_counter() - began, buffers))
            self._loop(runner)

    def _loop(self, runner: _Loop) -> None:
        while True:
            if not runner.has_work:
                self._take(runner, self._inbox.get())
            while not self._inbox.empty():
                self._take(runner, self._inbox.get())
            self._report(runner)
            if runner.has_work:
                runner.step()
                self._report(runner)

    def _report(self, runner: _Loop) -> None:
        """Send the news: at once what somebody waits for, else no more often than the interval."""
        now = time.perf_counter()
        if runner.urgent or not runner.has_work or now - self._reported_at_s >= self._interval_s:
            self._reported_at_s = now
            self._send(runner.news())

    def _take(self, runner: _Loop, message: _Message) -> None:
        if isinstance(message, Cancel):
            runner.cancel(message.id)
        elif isinstance(message, DropPrefixes):
            runner.drop_prefixes()
            give_back()
        elif isinstance(message, Failed):
            runner.refuse(message)
        else:
            runner.submit(message)

    def _read(self, messages: list[ToWorker]) -> None:
        """The reader thread: ends the whole process when the daemon is gone, and when it fails itself.

        Until the model is there it says that the process lives.
        """
        try:
            while True:
                for message in messages:
                    if isinstance(message, Ping):
                        self._send(Pong())
                    else:
                        self._hand_over(message, self._loaded.result())
                messages = self._receive()
        except BaseException:
            # A worker that no longer reads would let every request wait for ever: better none at all.
            traceback.print_exc()
            os._exit(1)

    def _hand_over(self, message: ToWorker, parts: _Parts) -> None:
        if isinstance(message, Submit | Embed | Rank):
            self._inbox.put(parts.read(message))
        elif isinstance(message, Cancel):
            self._inbox.put(message)
            if parts.runner.computes_prompt_of(message.id):
                parts.context.abort()
        elif isinstance(message, DropPrefixes):
            self._inbox.put(message)

    def _receive(self) -> list[ToWorker]:
        messages: list[ToWorker] = []
        while not messages:
            data = self._socket.recv(_READ_BYTES)
            if not data:
                os._exit(0)
            messages = list(self._frames.feed(data))  # type: ignore[arg-type]
        return messages

    def _send(self, message: FromWorker) -> None:
        frame = encode_frame(message)
        try:
            with self._sending:  # the reader thread answers pings
                self._socket.sendall(frame)
        except OSError:
            os._exit(0)

    def _tell_progress(self, fraction: float) -> None:
        if fraction - self._told >= _PROGRESS_STEP:
            self._told = fraction
            self._send(Progress(fraction))


def idle_limit_tokens(context_tokens: int, buffers: Buffers) -> int:
    """Tokens of idle prefixes that may stay in the KV cache beside running sequences.

    Every token of an answer reads them beside the weights: they may be a hundredth of those, and a sixteenth of the
    cells.
    """
    cache = sum(buffers.kv.values()) / context_tokens
    worth = sum(buffers.weights.values()) / 100 / cache if cache else context_tokens
    return min(context_tokens // IDLE_SHARE, int(worth))


def _generating(context: Context, start: Start, buffers: Buffers) -> tuple[_Loop, _Read]:
    _warm_up(context, start.warm_tokens)
    limits = SchedulerLimits(start.slots, context.context_tokens, start.context.batch_tokens, start.gap_s)
    store = _store(start, context.context_tokens) if start.store_bytes else None
    idle = None if store is None else idle_limit_tokens(context.context_tokens, buffers)
    runner = Runner(context, limits, start.context.max_sequences, time.perf_counter, store, idle)
    return runner, Intake(context.model, context.context_tokens).read


def _draft_context(model: Model, draft: Draft, warm_tokens: int, owned: ExitStack) -> Context:
    """The context of a draft model for ``model``; EngineLoadFailed where it cannot be one."""
    second = owned.enter_context(Model(draft.model))
    if not (model.can_roll_back and second.can_roll_back):
        raise EngineLoadFailed(
            f"{draft.model.path} cannot draft: the cache of one of both models cannot forget refused tokens",
            hint="load the model without a draft model",
        )
    context = owned.enter_context(Context(second, draft.context))
    _warm_up(context, warm_tokens)
    return context


def _store(start: Start, context_tokens: int) -> PrefixStore:
    """The store for prefixes, with what is left on disk of earlier runs."""
    disk = start.disk
    if disk is None:
        return PrefixStore(start.store_bytes)
    identities = [file_identity(Path(path)) for path in disk.model_files]
    key = msgspec.msgpack.encode((disk.build, identities, start.model, start.context, context_tokens))
    files = PrefixFiles(Path(disk.folder), key, disk.limit_bytes)
    store = PrefixStore(start.store_bytes, files)
    for tokens, state in files.load(start.store_bytes):
        store.put(tokens, state)
    return store


def _pooling(context: PooledContext, start: Start) -> tuple[_Loop, _Read]:
    warm_up(context, start.warm_tokens)
    embedder = Embedder(context, start.context.batch_tokens, start.context.max_sequences)
    return embedder, JobIntake(context.model, context.window_tokens).read


def _warm_up(context: Context, tokens: int) -> None:
    """Run ``tokens`` tokens as a prompt and one more as an answer: faults of the CPU settings show here, not at a
    request.
    """
    batch = Batch(max(tokens, 1))
    filler = context.model.tokenize("The", add_special=True, parse_special=False)[-1:]
    batch.add(filler * tokens, 0, 0, output_last=True)
    context.decode(batch)
    batch.clear()
    batch.add(filler, tokens, 0, output_last=True)
    context.decode(batch)
    context.drop(0)


def _ready(model: Model, context: Context, load_s: float, buffers: Buffers) -> Ready:
    return Ready(
        context_tokens=context.context_tokens,
        trained_context_tokens=model.trained_context_tokens,
        vocab_size=model.vocab_size,
        adds_bos=model.adds_bos,
        bos_text=model.special_text("bos"),
        eos_text=model.special_text("eos"),
        chat_template=model.chat_template(),
        system_info=system_info(),
        load_s=load_s,
        buffers=buffers,
    )


if __name__ == "__main__":
    main()
