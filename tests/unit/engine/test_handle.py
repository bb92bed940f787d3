"""The daemon's side of real workers."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import psutil
import pytest
from tests.support.model import smollm2_path

from lilliput.daemon import loop_factory
from lilliput.engine import Accepted, Done, Engine, Event, EventStream, Failed, Start, Submit, Text, error_of, handle
from lilliput.engine.process import WorkerProcess, signal_name, start_worker
from lilliput.engine.wire import FrameReader, FromWorker, Ping, Pong, Ready, encode_frame
from lilliput.errors import BadGrammar, ContextExceeded, EngineDied, EngineError, EngineLoadFailed
from lilliput.llama import ContextSettings, ModelSettings, SamplerSettings

needs_signals = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="workers are killed by a signal")


def start_of(path: Path) -> Start:
    model = ModelSettings(str(path), rung="no-extra-buffers")
    return Start(model, ContextSettings(256, 4, threads=1), slots=2, warm_tokens=1)


@asynccontextmanager
async def running() -> AsyncIterator[Engine]:
    engine = Engine(start_of(smollm2_path()))
    try:
        await engine.start()
        yield engine
    finally:
        await engine.aclose()


def ask(engine: Engine, max_tokens: int | None = 4) -> tuple[int, EventStream]:
    stream = EventStream()
    greedy = SamplerSettings(temperature=0)
    number = engine.submit(
        lambda number: Submit(number, "One, two,", greedy, max_tokens=max_tokens, ignore_eos=True), stream
    )
    return number, stream


async def read(stream: EventStream) -> list[Event]:
    events: list[Event] = []
    while not events or not isinstance(events[-1], Done | Failed):
        events += await stream.take()
    return events


async def test_a_worker_loads_answers_and_ends() -> None:
    async with running() as engine:
        assert engine.alive
        _, stream = ask(engine)
        first, *texts, done = await read(stream)
        assert isinstance(first, Accepted)
        assert isinstance(done, Done)
        assert done.completion_tokens == 4
        assert "three" in "".join(one.text for one in texts if isinstance(one, Text))
        assert not engine._streams
        pid = engine.pid
    assert pid is not None
    assert not psutil.pid_exists(pid)
    assert not engine.alive


async def test_a_worker_forgets_idle_prefixes_when_it_is_told_to() -> None:
    async with running() as engine:
        _, stream = ask(engine)
        await read(stream)
        async with asyncio.timeout(10):
            while not engine.load.cached_tokens:
                await asyncio.sleep(0.01)
            engine.drop_prefixes()
            while engine.load.cached_tokens:
                await asyncio.sleep(0.01)
        _, stream = ask(engine)
        assert isinstance((await read(stream))[-1], Done)
    engine.drop_prefixes()  # nobody is there any more


async def test_the_way_for_systems_without_inherited_descriptors_works_for_a_real_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handle, "start_worker", functools.partial(start_worker, inherit=False))
    async with running() as engine:
        events = await read(ask(engine)[1])
    assert isinstance(events[-1], Done)


async def test_a_file_that_llama_cannot_load_is_refused_with_its_words(tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(smollm2_path().read_bytes()[:100_000])
    engine = Engine(start_of(path))
    with pytest.raises(EngineLoadFailed, match=r"broken\.gguf") as refused:
        await engine.start()
    assert refused.value.log_tail
    assert engine.pid is not None
    assert not psutil.pid_exists(engine.pid)


@needs_signals
async def test_a_killed_worker_fails_its_streams_within_a_second() -> None:
    async with running() as engine:
        streams = [ask(engine, None)[1] for _ in range(2)]
        for stream in streams:
            await stream.take()
        assert engine.pid is not None
        began = time.monotonic()
        os.kill(engine.pid, signal.SIGKILL)
        results = await asyncio.gather(*(read(stream) for stream in streams), return_exceptions=True)
        assert time.monotonic() - began < 1
        for result in results:
            assert isinstance(result, EngineDied)
            assert result.signal_number == signal.SIGKILL
        assert not engine.alive
        assert engine.load.active == 0
        with pytest.raises(EngineDied, match="SIGKILL"):
            ask(engine)


@needs_signals
async def test_a_worker_that_dies_while_it_loads_is_an_error_of_the_start() -> None:
    engine = Engine(start_of(smollm2_path()))
    starting = asyncio.create_task(engine.start())
    async with asyncio.timeout(10):
        while engine.pid is None:
            await asyncio.sleep(0.002)
    os.kill(engine.pid, signal.SIGKILL)
    with pytest.raises(EngineDied) as died:
        await starting
    assert died.value.signal_number == signal.SIGKILL


async def test_a_cancelled_request_is_forgotten_and_others_go_on() -> None:
    async with running() as engine:
        number, stream = ask(engine, None)
        await stream.take()
        engine.cancel(number)
        engine.cancel(number)
        assert isinstance((await read(ask(engine)[1]))[-1], Done)
        assert engine.load.active == 0


@pytest.mark.parametrize(
    ("failed", "kind"),
    [
        (Failed(1, "context-exceeded", "", None, 9000, 8192), ContextExceeded),
        (Failed(1, "bad-grammar", "no"), BadGrammar),
        (Failed(1, "engine-error", "no"), EngineError),
        (Failed(1, "what-is-this", "no"), EngineError),
    ],
)
def test_failures_of_requests_become_their_errors(failed: Failed, kind: type[Exception]) -> None:
    assert type(error_of(failed)) is kind


def test_signals_have_names() -> None:
    assert signal_name(signal.SIGTERM) == "SIGTERM"
    assert signal_name(99) == "signal 99"


@needs_signals
def test_a_request_to_a_worker_whose_socket_has_closed_fails_with_its_end() -> None:
    async def play() -> None:
        async with running() as engine:
            assert engine.pid is not None
            assert engine._transport is not None
            os.kill(engine.pid, signal.SIGSTOP)
            while psutil.Process(engine.pid).status() != psutil.STATUS_STOPPED:
                await asyncio.sleep(0.01)
            engine._transport.abort()
            await asyncio.sleep(0.05)
            number, stream = ask(engine)
            engine.cancel(number + 1)
            os.kill(engine.pid, signal.SIGKILL)
            with pytest.raises(EngineDied):
                await read(stream)

    with asyncio.Runner(loop_factory=loop_factory()) as runner:  # the daemon's loop, which may be stricter
        runner.run(play())


@needs_signals
async def test_a_worker_that_hangs_while_it_loads_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handle, "STARTING_S", 0.6)
    engine = Engine(start_of(smollm2_path()), stall_s=0.4)
    worker = await start_worker()
    os.kill(worker.pid, signal.SIGSTOP)

    async def stopped() -> WorkerProcess:
        return worker

    with pytest.raises(EngineDied, match=r"did not react for 0\.6 s and was ended"):
        await engine.start(stopped())
    assert not psutil.pid_exists(worker.pid)


async def test_a_worker_answers_pings_while_it_loads() -> None:
    worker = await start_worker()
    loop = asyncio.get_running_loop()
    frames = FrameReader(FromWorker)
    heard: list[FromWorker] = []
    try:
        await loop.sock_sendall(worker.connection, encode_frame(start_of(smollm2_path())) + encode_frame(Ping()))
        async with asyncio.timeout(60):
            while not any(isinstance(one, Ready) for one in heard):
                news = memoryview(await loop.sock_recv(worker.connection, 65536))
                heard += cast("Iterator[FromWorker]", frames.feed(news))
    finally:
        worker.connection.close()
        await worker.aclose()
    assert isinstance(heard[0], Pong)
