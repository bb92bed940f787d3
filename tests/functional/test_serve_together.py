"""Many at once: batching must not change what anybody is told."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from tests.functional.conftest import MODEL, client_of
from tests.support.daemon import DaemonProcess
from tests.support.watching import Watch

pytestmark = pytest.mark.functional
log = logging.getLogger(__name__)

ANSWER_TOKENS = 32
NEAR_TIE_NATS = 0.5
"""llama.cpp's attention on CPUs has one kernel for passes of fewer than 64 tokens and another, with other rounding, for
longer ones. Below 64 the company in a pass changes no bit; beyond, log probabilities of likely tokens move by up to 0.3
here, also when one long prompt runs alone. So tokens that are about as likely may change places.
"""
QUESTIONS = (
    "Tell me about the sea.",
    "What is the capital of France, and what is it known for?",
    "Write a short poem about a cat.",
    "Explain how a bicycle stays upright.",
    "List three kinds of fruit and their colours.",
    "Why is the sky blue?",
    "Describe a winter morning in the mountains.",
    "How do I boil an egg?",
)
BEGINNINGS = (
    "The sea is",
    "Paris is the",
    "A cat once",
    "Bicycles stay upright",
    "Apples are red",
    "The sky is",
    "In winter the",
    "To boil an egg",
)
"""So short that the prompts of all eight together are a pass of fewer than 64 tokens."""


@dataclass(frozen=True)
class Answer:
    """The tokens of an answer, and for each the log probabilities of the likeliest candidates."""

    text: str
    tokens: list[str]
    candidates: list[dict[str, float]]


def ask(http: httpx.Client, question: str, *, raw: bool = False) -> Answer:
    """Stream one answer at temperature 0; ``raw`` continues the text without a chat template."""
    body = {
        "model": MODEL,
        "temperature": 0,
        "max_tokens": ANSWER_TOKENS,
        "stream": True,
        "ignore_eos": True,
    }
    if raw:
        return read_completion(http, {**body, "prompt": question, "logprobs": 5})
    messages = [{"role": "user", "content": question}]
    return read_chat(http, {**body, "messages": messages, "logprobs": True, "top_logprobs": 5})


def chunks_of(http: httpx.Client, path: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The only choice of every chunk of a stream that must end as it should."""
    with http.stream("POST", path, json=body) as response:
        assert response.status_code == 200
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line)["choices"][0] for line in lines[:-1]]


def read_chat(http: httpx.Client, body: Mapping[str, Any]) -> Answer:
    choices = chunks_of(http, "/v1/chat/completions", body)
    reports = [report for choice in choices for report in (choice["logprobs"] or {}).get("content") or ()]
    return Answer(
        "".join(choice["delta"].get("content") or "" for choice in choices),
        [report["token"] for report in reports],
        [{top["token"]: top["logprob"] for top in report["top_logprobs"]} for report in reports],
    )


def read_completion(http: httpx.Client, body: Mapping[str, Any]) -> Answer:
    choices = chunks_of(http, "/v1/completions", body)
    reports = [choice["logprobs"] for choice in choices if choice["logprobs"]]
    return Answer(
        "".join(choice["text"] for choice in choices),
        [token for report in reports for token in report["tokens"]],
        [top for report in reports for top in report["top_logprobs"]],
    )


@dataclass(frozen=True)
class Parting:
    """Where two answers part: after ``equal_tokens``, for a token that alone was less likely by ``gap_nats``."""

    equal_tokens: int
    gap_nats: float


def parting_of(alone: Answer, together: Answer) -> Parting | None:
    """None when the answers are equal; a token that was no candidate alone fails."""
    assert len(alone.tokens) == len(together.tokens) == ANSWER_TOKENS
    pairs = enumerate(zip(alone.tokens, together.tokens, strict=True))
    at = next((at for at, (left, right) in pairs if left != right), None)
    if at is None:
        assert together.text == alone.text
        return None
    likely = alone.candidates[at]
    assert together.tokens[at] in likely, f"{together.tokens[at]!r} was no candidate: {likely}"
    return Parting(at, likely[alone.tokens[at]] - likely[together.tokens[at]])


@pytest.mark.parametrize(
    ("questions", "raw", "least_equal"),
    [pytest.param(QUESTIONS, False, 0, id="chats"), pytest.param(BEGINNINGS, True, 5, id="short prompts")],
)
def test_eight_streams_at_once_are_told_what_each_is_told_alone(
    served: DaemonProcess, http: httpx.Client, questions: tuple[str, ...], raw: bool, least_equal: int
) -> None:
    engine = f"/lilliput/engines/{MODEL}"
    http.delete(engine)
    http.post("/lilliput/engines", json={"model": MODEL}).raise_for_status()
    with Watch(served.url) as watch, ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda question: ask(http, question, raw=raw), questions))
    assert watch.most_active == 8
    http.delete(engine).raise_for_status()  # no prefix of theirs may be reused
    alone = [ask(http, question, raw=raw) for question in questions]
    partings = [parting_of(one, other) for one, other in zip(alone, together, strict=True)]
    parted = [parting for parting in partings if parting is not None]
    log.info("%d of 8 answers are equal, the others part so: %s", 8 - len(parted), parted)
    assert all(0 <= parting.gap_nats < NEAR_TIE_NATS for parting in parted), parted
    assert 8 - len(parted) >= least_equal, parted


def test_the_second_turn_of_a_conversation_reuses_the_first(http: httpx.Client) -> None:
    messages = [{"role": "user", "content": "Name a river in Europe and say where it ends, in one long sentence."}]

    def turn() -> tuple[str, dict[str, int]]:
        body = {"model": MODEL, "messages": messages, "temperature": 0, "max_tokens": 16}
        told = http.post("/v1/chat/completions", json=body).raise_for_status().json()
        usage = told["usage"]
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        return told["choices"][0]["message"]["content"], {"prompt": usage["prompt_tokens"], "cached": cached}

    content, first = turn()
    messages += [{"role": "assistant", "content": content}, {"role": "user", "content": "And another?"}]
    _, second = turn()
    assert second["cached"] >= first["prompt"] - 1
    assert second["cached"] < second["prompt"]


def test_more_requests_than_slots_wait_and_are_answered(served: DaemonProcess) -> None:
    with client_of(served) as http, ThreadPoolExecutor(12) as threads:

        def complete(number: int) -> tuple[int, int]:
            body = {"model": MODEL, "prompt": f"{number} and then", "max_tokens": 8, "ignore_eos": True}
            answer = http.post("/v1/completions", json=body)
            return answer.status_code, answer.json()["usage"]["completion_tokens"]

        assert set(threads.map(complete, range(12))) == {(200, 8)}
