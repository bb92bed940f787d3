"""Engines that hang: their process is there, and does nothing any more."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest
from tests.functional.conftest import MODEL, ONE_THREAD, client_of
from tests.support.daemon import DaemonProcess
from tests.support.watching import Pulse, active, engines, wait_until

pytestmark = [
    pytest.mark.functional,
    pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="workers are stopped by a signal"),
]

STALL_S = 2.0
ENDLESS = {"model": MODEL, "prompt": "once upon a time", "max_tokens": 2000, "ignore_eos": True, "stream": True}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    with DaemonProcess(tmp_path_factory.mktemp("stall"), ONE_THREAD | {"LILLIPUT_STALL_S": str(STALL_S)}) as daemon:
        yield daemon


def stop_engine(http: httpx.Client) -> int:
    (engine,) = engines(http)
    os.kill(engine["pid"], signal.SIGSTOP)
    return int(engine["pid"])


def lines_of(response: httpx.Response) -> Iterator[str]:
    return (line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: "))


def test_streams_of_an_engine_that_hangs_end_in_band_and_the_next_request_is_served(daemon: DaemonProcess) -> None:
    def read(http: httpx.Client) -> list[str]:
        with http.stream("POST", "/v1/completions", json=ENDLESS) as response:
            return list(lines_of(response))

    with client_of(daemon) as http, Pulse(daemon.url) as pulse, ThreadPoolExecutor(4) as threads:
        streams = [threads.submit(read, http) for _ in range(4)]
        wait_until(lambda: active(http) == 4)
        pid = stop_engine(http)
        began = time.monotonic()
        told = [stream.result(timeout=60) for stream in streams]
        took_s = time.monotonic() - began
        answer = http.post("/v1/completions", json=ENDLESS | {"stream": False, "max_tokens": 3})
    assert took_s < 2 * STALL_S + 2
    for lines in told:
        assert lines[-1] == "[DONE]"
        error = json.loads(lines[-2])["error"]
        assert (error["code"], "did not react for 2 s" in error["message"]) == ("engine_died", True)
    assert answer.status_code == 200
    assert not psutil.pid_exists(pid)
    assert pulse.longest_s < 1


def test_a_request_to_an_engine_that_hung_while_it_was_idle_is_answered_by_another(daemon: DaemonProcess) -> None:
    with client_of(daemon) as http:
        http.post("/lilliput/engines", json={"model": MODEL}).raise_for_status()
        pid = stop_engine(http)
        time.sleep(2 * STALL_S)
        assert psutil.pid_exists(pid)  # it owes nothing
        answer = http.post("/v1/completions", json=ENDLESS | {"stream": False, "max_tokens": 3})
        assert answer.status_code == 200
        assert engines(http)[0]["pid"] != pid


def test_a_long_prompt_is_no_hang(daemon: DaemonProcess) -> None:
    with client_of(daemon) as http:
        http.post("/lilliput/engines", json={"model": MODEL}).raise_for_status()
        (before,) = engines(http)
        body = ENDLESS | {"stream": False, "max_tokens": 1, "prompt": "one two three four " * 300}
        assert http.post("/v1/completions", json=body).status_code == 200
        assert engines(http)[0]["pid"] == before["pid"]
