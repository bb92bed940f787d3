"""A client that leaves frees what it occupied, whatever the engine was doing for it."""

from __future__ import annotations

import json
import logging
import socket
import statistics

import httpx
import pytest
from tests.functional.conftest import MODEL, client_of
from tests.support.daemon import DaemonProcess
from tests.support.watching import active, engines, wait_until

pytestmark = pytest.mark.functional
log = logging.getLogger(__name__)

ENDLESS = {"model": MODEL, "max_tokens": 4000, "ignore_eos": True}
CHAT = {**ENDLESS, "messages": [{"role": "user", "content": "Tell me a very long story."}], "stream": True}
GENEROUS_S = 2.0
MEDIAN_S = 0.5
"""The promise is 0.1 s, which the benchmark judges on a quiet machine; other work must not fail the test."""


def judge(what: str, times_s: list[float]) -> None:
    middle_s = statistics.median(times_s)
    log.info("%s: freed after %.0f ms (median of %d)", what, middle_s * 1000, len(times_s))
    assert middle_s <= MEDIAN_S, f"{what}: {times_s}"


def long_prompt(number: int) -> list[int]:
    """Several thousand tokens that no earlier prompt began with."""
    return [1000 + number, *range(100, 6000)]


def test_a_stream_that_is_closed_frees_its_sequence(http: httpx.Client) -> None:
    times_s = []
    for _ in range(5):
        with http.stream("POST", "/v1/chat/completions", json=CHAT) as response:
            lines = response.iter_lines()
            for _ in range(8):
                next(lines)
            assert active(http) == 1
            response.close()
            times_s.append(wait_until(lambda: active(http) == 0, GENEROUS_S))
    judge("decoding", times_s)


def test_a_stream_that_is_closed_while_its_prompt_is_read_frees_its_sequence(http: httpx.Client) -> None:
    times_s = []
    for number in range(3):
        body = {**ENDLESS, "prompt": long_prompt(number), "stream": True}
        with http.stream("POST", "/v1/completions", json=body) as response:
            wait_until(lambda: active(http) == 1)
            response.close()
            times_s.append(wait_until(lambda: active(http) == 0, GENEROUS_S))
    assert active(http) == 0
    judge("reading a prompt of thousands of tokens", times_s)


def test_a_client_that_leaves_before_its_answer_began_frees_its_sequence(
    served: DaemonProcess, http: httpx.Client
) -> None:
    times_s = []
    for number in range(50, 53):
        body = json.dumps({**ENDLESS, "prompt": long_prompt(number)}).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        with socket.create_connection(("127.0.0.1", served.port)) as connection:
            connection.sendall(head + body)
            wait_until(lambda: active(http) == 1)
        times_s.append(wait_until(lambda: active(http) == 0, GENEROUS_S))
    assert active(http) == 0
    judge("an answer in one piece", times_s)


def test_a_client_that_leaves_does_not_disturb_the_others(http: httpx.Client) -> None:
    staying_body = {"model": MODEL, "prompt": "One, two,", "max_tokens": 24, "ignore_eos": True, "stream": True}
    with http.stream("POST", "/v1/completions", json=staying_body) as staying:
        lines = (line.removeprefix("data: ") for line in staying.iter_lines() if line.startswith("data: "))
        first = next(lines)
        leaving_body = {**ENDLESS, "prompt": long_prompt(60), "stream": True}
        with http.stream("POST", "/v1/completions", json=leaving_body):
            wait_until(lambda: active(http) == 2)
        *chunks, done = [first, *lines]
    assert done == "[DONE]"
    assert [json.loads(chunk)["choices"][0]["finish_reason"] for chunk in chunks][-1] == "length"


def test_a_client_that_leaves_while_it_loads_a_model_ends_the_load(served: DaemonProcess, http: httpx.Client) -> None:
    http.delete(f"/lilliput/engines/{MODEL}")
    wait_until(lambda: not engines(http))
    with client_of(served, timeout_s=0.2) as hasty, pytest.raises(httpx.ReadTimeout):
        hasty.post("/lilliput/engines", json={"model": MODEL})
    wait_until(lambda: not engines(http), GENEROUS_S)
    assert http.post("/lilliput/engines", json={"model": MODEL}).json()["state"] == "ready"
