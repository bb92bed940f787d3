"""A worker that is killed, crashes or hangs, at rest, while it reads a prompt or answers many: others feel nothing."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from types import TracebackType
from typing import Any, Self

import httpx
import psutil
import pytest
from tests.functional.conftest import MODEL, ONE_THREAD, client_of
from tests.support.daemon import DaemonProcess
from tests.support.model import smollm2_path
from tests.support.watching import engines, wait_until

pytestmark = [
    pytest.mark.functional,
    pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="workers are stopped by a signal"),
]

FAULTS = {"killed": "SIGKILL", "crashed": "SIGSEGV", "hung": "SIGSTOP"}
STREAMS = 8
STALL_S = 1.5
SETTINGS = ONE_THREAD | {
    "LILLIPUT_STALL_S": str(STALL_S),
    "LILLIPUT_SLOTS": str(STREAMS),
    "LILLIPUT_CONTEXT_TOKENS": "4096",
    "LILLIPUT_PREFIX_STORE": "0",
}
ENDLESS = {"max_tokens": 3000, "ignore_eos": True, "stream": True}
SHORT = {"model": MODEL, "prompt": "one two", "max_tokens": 3}

_numbers = count(1)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same model under another name: an engine of its own."""
    path = tmp_path_factory.mktemp("other") / "other.gguf"
    path.symlink_to(smollm2_path())
    return str(path)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """A daemon with memory for two engines, not for three: what a dead one held must come back."""
    with DaemonProcess(tmp_path_factory.mktemp("alone"), SETTINGS) as alone, client_of(alone) as http:
        (variant,) = http.get("/lilliput/plan", params={"model": MODEL}).raise_for_status().json()["variants"]
    limit = {"LILLIPUT_MEMORY_LIMIT": str(int(2.5 * variant["total_bytes"]))}
    with DaemonProcess(tmp_path_factory.mktemp("faults"), SETTINGS | limit) as daemon:
        yield daemon


class Stream:
    """One stream, read in a thread."""

    def __init__(self, url: str, body: dict[str, Any]) -> None:
        self._url = url
        self._body = body
        self._closing = False
        self._thread = threading.Thread(target=self._run)
        self.accepted = threading.Event()
        self.lines: list[str] = []
        self.ended_s: float | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        self._thread.join()

    def _run(self) -> None:
        with (
            httpx.Client(base_url=self._url, timeout=60, trust_env=False) as http,
            http.stream("POST", "/v1/completions", json=self._body) as response,
        ):
            self.accepted.set()
            for line in response.iter_lines():
                if self._closing:
                    return
                if line.startswith("data: "):
                    self.lines.append(line.removeprefix("data: "))
        self.ended_s = time.monotonic()

    def wait_for_end(self, within_s: float) -> float:
        """When it ended, on the monotonic clock."""
        wait_until(lambda: self.ended_s is not None, within_s)
        assert self.ended_s is not None
        return self.ended_s

    @property
    def fault(self) -> str | None:
        """The code of the error that it ended with."""
        told = [json.loads(line) for line in self.lines if line != "[DONE]"]
        return told[-1]["error"]["code"] if told and "error" in told[-1] else None


def engine_of(http: httpx.Client, model: str) -> dict[str, Any] | None:
    return next((one for one in engines(http) if one["model"] == model and one["state"] == "ready"), None)


def at_work(daemon: DaemonProcess, moment: str) -> list[Stream]:
    """Streams that bring the engine to this moment."""
    if moment == "decode":
        return [Stream(daemon.url, ENDLESS | {"model": MODEL, "prompt": f"story {n}"}) for n in range(STREAMS)]
    if moment == "prefill":
        prompt = [1000 + next(_numbers), *range(100, 3600)]
        return [Stream(daemon.url, ENDLESS | {"model": MODEL, "prompt": prompt, "max_tokens": 8})]
    return []


def wait_for_work(http: httpx.Client, moment: str, streams: list[Stream]) -> None:
    if moment == "decode":
        wait_until(lambda: all(len(stream.lines) > 1 for stream in streams))
        wait_until(lambda: (engine_of(http, MODEL) or {}).get("active") == len(streams))
    for stream in streams:
        assert stream.accepted.wait(30)
    time.sleep(0.3)  # a prompt is read from the moment on in which it is accepted, for seconds


def heard(stream: Stream) -> int:
    """Chunks with text so far."""
    return sum('"text":""' not in line for line in stream.lines)


@pytest.mark.parametrize("moment", ["idle", "prefill", "decode"])
@pytest.mark.parametrize("fault", FAULTS)
def test_only_its_own_streams_feel_it_and_the_next_request_is_served(
    daemon: DaemonProcess, other: str, fault: str, moment: str
) -> None:
    allowed_s = 2 + (1.5 * STALL_S if fault == "hung" else 0)
    with client_of(daemon) as http, ThreadPoolExecutor(1) as threads, ExitStack() as open_streams:
        http.post("/lilliput/engines", json={"model": MODEL}).raise_for_status()
        engine = engine_of(http, MODEL)
        assert engine is not None
        bystander = open_streams.enter_context(Stream(daemon.url, ENDLESS | {"model": other, "prompt": "meanwhile"}))
        wait_until(lambda: len(bystander.lines) > 1)
        streams = [open_streams.enter_context(stream) for stream in at_work(daemon, moment)]
        wait_for_work(http, moment, streams)
        assert (moment == "decode") == any(heard(stream) for stream in streams)
        before = len(bystander.lines)
        os.kill(engine["pid"], getattr(signal, FAULTS[fault]))
        began_s = time.monotonic()
        answer = threads.submit(http.post, "/v1/completions", json=SHORT) if moment == "idle" else None
        ends_s = [stream.wait_for_end(allowed_s + 10) - began_s for stream in streams]
        answered = answer.result() if answer else http.post("/v1/completions", json=SHORT)
        wait_until(lambda: len(bystander.lines) > before + 5)
        assert bystander.ended_s is None
        assert answered.status_code == 200
        assert all(ended_s <= allowed_s for ended_s in ends_s), ends_s
        assert [stream.fault for stream in streams] == ["engine_died"] * len(streams)
        assert [stream.lines[-1] for stream in streams] == ["[DONE]"] * len(streams)
        after = engine_of(http, MODEL)
        assert after is not None
        assert after["pid"] != engine["pid"]
        assert not psutil.pid_exists(engine["pid"])
        # What the dead engine held was given back, and nobody had to go.
        wait_until(lambda: {one["pid"] for one in engines(http)} == workers(daemon), 5)
        assert len(workers(daemon)) == 2


def workers(daemon: DaemonProcess) -> set[int]:
    return {worker.pid for worker in psutil.Process(daemon.pid).children(recursive=True)}
