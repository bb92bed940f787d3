"""Raw completions of a real model through the official client."""

from __future__ import annotations

import json

import httpx
import pytest
from openai import OpenAI
from tests.functional.conftest import MODEL

pytestmark = pytest.mark.functional

PROMPT = "The capital of France is"


def test_a_prompt_is_continued_whole_and_streamed(openai: OpenAI, http: httpx.Client) -> None:
    whole = openai.completions.create(model=MODEL, prompt=PROMPT, temperature=0, max_tokens=6)
    assert whole.choices[0].text.startswith(" Paris")
    body = {"model": MODEL, "prompt": PROMPT, "temperature": 0, "max_tokens": 6, "stream": True}
    with http.stream("POST", "/v1/completions", json=body) as response:
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole.choices[0].text


def test_echo_gives_the_prompt_back(openai: OpenAI) -> None:
    plain = openai.completions.create(model=MODEL, prompt=PROMPT, temperature=0, max_tokens=4)
    echoed = openai.completions.create(model=MODEL, prompt=PROMPT, temperature=0, max_tokens=4, echo=True)
    assert echoed.choices[0].text == PROMPT + plain.choices[0].text


def test_prompts_of_token_ids_are_taken_as_they_are(openai: OpenAI) -> None:
    answer = openai.completions.create(model=MODEL, prompt=[504, 3575, 282], temperature=0, max_tokens=4)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 3
    again = openai.completions.create(
        model=MODEL, prompt=[[504, 3575, 282], [504, 3575]], temperature=0, max_tokens=4, n=2
    )
    assert [choice.index for choice in again.choices] == [0, 1, 2, 3]
    assert again.choices[0].text == again.choices[1].text == answer.choices[0].text
    assert again.usage is not None
    assert (again.usage.prompt_tokens, again.usage.completion_tokens) == (5, 16)


def test_log_probabilities_come_with_offsets_into_the_text(openai: OpenAI) -> None:
    choice = openai.completions.create(model=MODEL, prompt=PROMPT, temperature=0, max_tokens=5, logprobs=2).choices[0]
    logprobs = choice.logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert logprobs.text_offset is not None
    assert "".join(logprobs.tokens) == choice.text
    assert [choice.text[at : at + len(t)] for at, t in zip(logprobs.text_offset, logprobs.tokens, strict=True)] == (
        logprobs.tokens
    )


def test_a_token_that_does_not_exist_is_a_400(http: httpx.Client) -> None:
    answer = http.post("/v1/completions", json={"model": MODEL, "prompt": [1, 99_999_999]})
    assert answer.status_code == 400
    assert "99999999" in answer.json()["error"]["message"]


def test_a_deadline_ends_a_request_that_takes_too_long(http: httpx.Client) -> None:
    endless = {"model": MODEL, "prompt": PROMPT, "ignore_eos": True, "deadline_s": 0.5, "max_tokens": 4000}
    answer = http.post("/v1/completions", json=endless)
    assert (answer.status_code, answer.json()["error"]["code"]) == (408, "deadline_exceeded")
    with http.stream("POST", "/v1/completions", json={**endless, "stream": True}) as response:
        lines = [line for line in response.iter_lines() if line.startswith("data: {")]
    assert json.loads(lines[-1].removeprefix("data: "))["error"]["code"] == "deadline_exceeded"
    assert len(lines) > 1
    patient = {"model": MODEL, "prompt": PROMPT, "max_tokens": 2, "priority": "batch", "deadline_s": 600}
    assert http.post("/v1/completions", json=patient).status_code == 200


@pytest.mark.parametrize("wrong", [{"priority": "high"}, {"deadline_s": 0}, {"deadline_s": -1}])
def test_an_impossible_priority_or_deadline_is_refused_by_name(http: httpx.Client, wrong: dict[str, object]) -> None:
    answer = http.post("/v1/completions", json={"model": MODEL, "prompt": PROMPT, **wrong})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, next(iter(wrong)))
