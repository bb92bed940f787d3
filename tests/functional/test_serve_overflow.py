"""A context that is full: an end, or a slide where the client asks for it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest
from tests.functional.conftest import MODEL, ONE_THREAD, client_of
from tests.support.daemon import DaemonProcess

pytestmark = pytest.mark.functional

CONTEXT = 256
ASKED = {"model": MODEL, "prompt": "Once upon a time", "temperature": 0, "ignore_eos": True, "max_tokens": 400}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A daemon whose models have a small context."""
    environment = ONE_THREAD | {"LILLIPUT_CONTEXT_TOKENS": str(CONTEXT)}
    with DaemonProcess(tmp_path_factory.mktemp("small"), environment) as daemon, client_of(daemon) as client:
        yield client


def test_without_being_asked_an_answer_ends_with_the_context(small: httpx.Client) -> None:
    answer = small.post("/v1/completions", json=ASKED).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert "discarded_tokens" not in answer["choices"][0]
    assert answer["usage"]["total_tokens"] == CONTEXT
    assert answer["usage"]["discarded_tokens"] == 0


def test_an_answer_goes_on_and_says_what_was_discarded(small: httpx.Client) -> None:
    answer = small.post("/v1/completions", json={**ASKED, "context_overflow": "slide", "n_keep": 4}).json()
    usage, choice = answer["usage"], answer["choices"][0]
    assert (usage["completion_tokens"], choice["finish_reason"]) == (400, "length")
    assert choice["discarded_tokens"] == usage["discarded_tokens"] == 2 * (CONTEXT - 4) // 2
    assert len(choice["text"]) > CONTEXT


def test_a_stream_says_so_at_its_end(small: httpx.Client) -> None:
    messages = [{"role": "user", "content": "Tell me a long story."}]
    body = {"model": MODEL, "messages": messages, "temperature": 0, "ignore_eos": True, "max_tokens": 300, "n": 2}
    body |= {"context_overflow": "slide", "n_keep": -1, "stream": True, "stream_options": {"include_usage": True}}
    with small.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    chunks = [json.loads(line) for line in lines[:-1]]
    ends = [choice for chunk in chunks for choice in chunk["choices"] if choice["finish_reason"]]
    assert [one["finish_reason"] for one in ends] == ["length", "length"]
    assert all(one["discarded_tokens"] > 0 for one in ends)
    assert chunks[-1]["usage"]["discarded_tokens"] == sum(one["discarded_tokens"] for one in ends)
    assert chunks[-1]["usage"]["completion_tokens"] == 600


def test_a_prompt_that_is_too_long_is_refused_or_cut(small: httpx.Client) -> None:
    long = {**ASKED, "prompt": [1000 + number for number in range(600)], "max_tokens": 4}
    refused = small.post("/v1/completions", json=long)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
    cut = small.post("/v1/completions", json={**long, "context_overflow": "slide", "n_keep": 56}).json()
    assert (cut["usage"]["prompt_tokens"], cut["usage"]["discarded_tokens"]) == (600, 400)
    everything = small.post("/v1/completions", json={**long, "context_overflow": "slide", "n_keep": 230})
    assert (everything.status_code, everything.json()["error"]["param"]) == (400, "n_keep")
