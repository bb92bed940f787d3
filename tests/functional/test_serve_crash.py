"""An engine that dies takes only its own streams with it, and the next request has a new one."""

from __future__ import annotations

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai as sdk
import pytest
from openai import OpenAI
from tests.functional.conftest import MODEL
from tests.support.daemon import DaemonProcess
from tests.support.watching import Pulse, active, engines, wait_until

pytestmark = [
    pytest.mark.functional,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="workers are killed by a signal"),
]

ENDLESS = {"model": MODEL, "max_tokens": 2000, "ignore_eos": True, "stream": True}
LONG = {**ENDLESS, "messages": [{"role": "user", "content": "Tell me a very long story."}]}


def kill_worker(http: httpx.Client) -> int:
    (engine,) = engines(http)
    os.kill(engine["pid"], signal.SIGKILL)
    return int(engine["pid"])


def test_a_killed_worker_ends_its_streams_in_band_and_the_daemon_goes_on(
    served: DaemonProcess, http: httpx.Client
) -> None:
    with Pulse(served.url) as pulse:
        with http.stream("POST", "/v1/chat/completions", json=LONG) as response:
            lines = (line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: "))
            for _ in range(5):
                assert "error" not in json.loads(next(lines))
            killed = kill_worker(http)
            killed_at = time.monotonic()
            rest = list(lines)
            ended_in_s = time.monotonic() - killed_at
        answer = http.post("/v1/chat/completions", json={**LONG, "stream": False, "max_tokens": 5})
    assert rest[-1] == "[DONE]"
    error = json.loads(rest[-2])["error"]
    assert (error["type"], error["code"]) == ("server_error", "engine_died")
    assert "SIGKILL" in error["message"]
    assert ended_in_s < 1
    assert answer.status_code == 200
    assert answer.json()["usage"]["completion_tokens"] == 5
    assert engines(http)[0]["pid"] != killed
    assert set(pulse.statuses) == {200}
    assert pulse.longest_s < 2


def test_the_official_client_raises_when_its_stream_breaks(openai: OpenAI, http: httpx.Client) -> None:
    stream = openai.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Tell me a very long story."}],
        max_tokens=2000,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    for _ in range(4):
        next(stream)
    kill_worker(http)
    with pytest.raises(sdk.APIError, match="SIGKILL") as caught:
        list(stream)
    assert caught.value.code == "engine_died"


def test_every_stream_of_a_killed_worker_is_told(http: httpx.Client) -> None:
    with (
        http.stream("POST", "/v1/chat/completions", json={**LONG, "n": 2}) as one,
        http.stream("POST", "/v1/completions", json={**ENDLESS, "prompt": "a"}) as other,
    ):
        kill_worker(http)
        ends = [[line for line in response.iter_lines() if line][-2:] for response in (one, other)]
    for error, done in ends:
        assert done == "data: [DONE]"
        assert json.loads(error.removeprefix("data: "))["error"]["code"] == "engine_died"


def test_an_unstreamed_answer_of_a_killed_worker_is_a_real_status(http: httpx.Client) -> None:
    with http.stream("POST", "/v1/chat/completions", json=LONG) as running:
        with ThreadPoolExecutor(1) as threads:
            answer = threads.submit(http.post, "/v1/chat/completions", json={**LONG, "stream": False})
            wait_until(lambda: active(http) == 2)
            kill_worker(http)
            told = answer.result()
        running.read()
    assert told.status_code == 503
    assert told.json()["error"]["code"] == "engine_died"
