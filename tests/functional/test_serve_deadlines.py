"""Requests that have only so much time, wherever they are when it is over; and callers who take turns."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from tests.functional.conftest import MODEL, ONE_THREAD, client_of
from tests.support.daemon import DaemonProcess
from tests.support.watching import active, engines, wait_until

pytestmark = pytest.mark.functional

TEXT: dict[str, Any] = {"model": MODEL, "prompt": "One day", "max_tokens": 4, "ignore_eos": True}
ENDLESS = TEXT | {"max_tokens": 6000}
CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4000}
SOON, LATE = {"x-request-timeout": "0.3"}, {"x-request-timeout": "10m"}
LEEWAY_S = 5.0


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """One slot, so that a second request waits."""
    settings = ONE_THREAD | {"LILLIPUT_SLOTS": "1", "LILLIPUT_QUEUE_LIMIT": "8"}
    with DaemonProcess(tmp_path_factory.mktemp("deadlines"), settings) as started:
        yield started
        assert "Traceback" not in started.log


@pytest.fixture
def http(daemon: DaemonProcess) -> Iterator[httpx.Client]:
    with client_of(daemon) as client:
        yield client


@pytest.fixture
def busy(http: httpx.Client) -> Iterator[None]:
    """The slot is taken as long as the test lasts."""
    with http.stream("POST", "/v1/completions", json=ENDLESS | {"stream": True}):
        wait_until(lambda: active(http) == 1)
        yield


def code_of(http: httpx.Client, path: str, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, str]:
    """The status and the code of a failure, in-band or not; it comes in time."""
    began = time.monotonic()
    with http.stream("POST", path, json=body, headers=headers) as answer:
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert time.monotonic() - began < LEEWAY_S
    if body.get("stream") and answer.status_code == 200:
        assert lines[-1] == "[DONE]"
        lines.pop()
    return answer.status_code, json.loads(lines[-1])["error"]["code"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_waits_for_a_load_is_told_by_its_status(http: httpx.Client, *, stream: bool) -> None:
    http.delete(f"/lilliput/engines/{MODEL}")
    hasty = {"x-request-timeout": "20ms"}
    assert code_of(http, "/v1/completions", TEXT | {"stream": stream}, hasty) == (408, "deadline_exceeded")
    assert code_of(http, "/v1/chat/completions", CHAT | {"stream": stream}, hasty) == (408, "deadline_exceeded")
    assert code_of(http, "/lilliput/engines", {"model": MODEL}, hasty) == (408, "deadline-exceeded")
    wait_until(lambda: engines(http) == [])


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize(("stream", "status"), [(False, 408), (True, 200)])
def test_a_request_that_waits_for_a_slot_ends(http: httpx.Client, *, stream: bool, status: int) -> None:
    assert code_of(http, "/v1/completions", TEXT | {"stream": stream}, SOON) == (status, "deadline_exceeded")
    assert code_of(http, "/v1/chat/completions", CHAT | {"stream": stream}, SOON) == (status, "deadline_exceeded")
    wait_until(lambda: engines(http)[0]["waiting"] == 0)


@pytest.mark.parametrize(("stream", "status"), [(False, 408), (True, 200)])
def test_a_request_ends_while_its_prompt_is_read_and_while_it_is_answered(
    http: httpx.Client, *, stream: bool, status: int
) -> None:
    long = TEXT | {"prompt": [1000 + number % 40_000 for number in range(7000)], "stream": stream}
    assert code_of(http, "/v1/completions", long, SOON) == (status, "deadline_exceeded")
    assert code_of(http, "/v1/completions", ENDLESS | {"stream": stream}, SOON) == (status, "deadline_exceeded")
    wait_until(lambda: active(http) == 0)


def test_the_shorter_of_header_and_body_counts_and_a_long_one_changes_nothing(http: httpx.Client) -> None:
    assert code_of(http, "/v1/completions", ENDLESS | {"deadline_s": 0.3}, LATE) == (408, "deadline_exceeded")
    assert code_of(http, "/v1/completions", ENDLESS | {"deadline_s": 600}, SOON) == (408, "deadline_exceeded")
    assert http.post("/v1/completions", json=TEXT, headers=LATE).status_code == 200


def test_vectors_have_deadlines_too(http: httpx.Client) -> None:
    body = {"model": MODEL, "input": [f"text number {number} " * 20 for number in range(500)]}
    assert code_of(http, "/v1/embeddings", body, SOON) == (408, "deadline_exceeded")
    assert http.post("/v1/embeddings", json={"model": MODEL, "input": "x"}, headers=LATE).status_code == 200


def test_a_second_caller_goes_before_the_rest_of_the_first_and_is_told_its_place(http: httpx.Client) -> None:
    ended: list[str] = []

    def ask(caller: str) -> httpx.Response:
        answer = http.post("/v1/completions", json=TEXT, headers={"authorization": f"Bearer {caller}"})
        ended.append(caller)
        return answer

    with ThreadPoolExecutor(8) as threads:
        with http.stream("POST", "/v1/completions", json=ENDLESS | {"stream": True}):
            wait_until(lambda: active(http) == 1)
            many = [threads.submit(ask, "first") for _ in range(6)]
            wait_until(lambda: engines(http)[0]["waiting"] == 6)
            late = threads.submit(ask, "second")
            wait_until(lambda: engines(http)[0]["waiting"] == 7)
            assert engines(http)[0]["by_caller"] == [6, 1, 1]
        positions = sorted(int(one.result().headers["x-lilliput-queue-position"]) for one in many)
    assert positions == [1, 2, 3, 4, 5, 6]
    assert late.result().headers["x-lilliput-queue-position"] == "2"
    assert ended.index("second") <= 2  # two answers may end at the same time
