"""The official client, unmodified and strict, against a real daemon and a real model."""

from __future__ import annotations

import openai as sdk
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam
from pydantic import BaseModel
from tests.functional.conftest import MODEL

pytestmark = pytest.mark.functional

SEA: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Tell me about the sea."}]


class City(BaseModel):
    name: str
    country: str
    inhabitants: int


def text(answer: ChatCompletion, index: int = 0) -> str:
    content = answer.choices[index].message.content
    assert content is not None
    return content


def test_an_answer_is_the_same_streamed_and_whole(openai: OpenAI) -> None:
    whole = openai.chat.completions.create(model=MODEL, messages=SEA, temperature=0, max_tokens=24)
    chunks = list(
        openai.chat.completions.create(
            model=MODEL,
            messages=SEA,
            temperature=0,
            max_tokens=24,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert "sea" in text(whole).lower()
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == text(whole)
    assert len([chunk for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]) > 12
    usage = chunks[-1].usage
    assert usage is not None
    assert whole.usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (whole.usage.prompt_tokens, 24)
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + 24
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"


def test_the_model_ends_its_answer_by_itself(openai: OpenAI) -> None:
    hello: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Say only: hi"}]
    answer = openai.chat.completions.create(model=MODEL, messages=hello, temperature=0, max_completion_tokens=200)
    assert answer.choices[0].finish_reason == "stop"
    assert text(answer)
    assert "<|im_end|>" not in text(answer)


def test_a_schema_gives_an_object_of_it(openai: OpenAI) -> None:
    answer = openai.chat.completions.parse(
        model=MODEL,
        messages=[{"role": "user", "content": "Describe the city of Paris as JSON."}],
        response_format=City,
        temperature=0,
        max_tokens=200,
    )
    city = answer.choices[0].message.parsed
    assert city is not None
    assert city.name


def test_json_object_mode_gives_an_object(openai: OpenAI) -> None:
    answer = openai.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Give me a JSON object with the key colour."}],
        response_format={"type": "json_object"},
        temperature=0,
        max_tokens=40,
    )
    assert text(answer).lstrip().startswith("{")


def test_two_choices_cost_one_prefill(openai: OpenAI) -> None:
    preface = "Once upon a time there was a small town by the sea, where nobody ever slept. " * 12
    question: list[ChatCompletionMessageParam] = [{"role": "user", "content": f"{preface} Go on with this story."}]
    answer = openai.chat.completions.create(model=MODEL, messages=question, n=2, seed=5, temperature=1, max_tokens=12)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert text(answer, 0) != text(answer, 1)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 24
    one = openai.chat.completions.create(model=MODEL, messages=question, seed=5, temperature=1, max_tokens=12)
    assert one.usage is not None
    assert one.usage.prompt_tokens == answer.usage.prompt_tokens
    assert text(one) == text(answer, 0)


def test_a_stop_string_ends_the_answer_and_is_no_part_of_it(openai: OpenAI) -> None:
    whole = text(openai.chat.completions.create(model=MODEL, messages=SEA, temperature=0, max_tokens=24))
    stop = whole.split()[6]
    cut = openai.chat.completions.create(model=MODEL, messages=SEA, temperature=0, max_tokens=24, stop=["@@@", stop])
    assert text(cut) == whole[: whole.index(stop)]
    assert cut.choices[0].finish_reason == "stop"


def test_a_seed_reproduces_an_answer_and_another_gives_another(openai: OpenAI) -> None:
    def draw(seed: int) -> str:
        return text(
            openai.chat.completions.create(model=MODEL, messages=SEA, seed=seed, temperature=1.2, max_tokens=24)
        )

    assert draw(7) == draw(7)
    assert draw(7) != draw(8)


def test_log_probabilities_are_of_the_tokens_told(openai: OpenAI) -> None:
    answer = openai.chat.completions.create(
        model=MODEL, messages=SEA, temperature=0, max_tokens=8, logprobs=True, top_logprobs=3
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert len(logprobs.content) == 8
    assert b"".join(bytes(token.bytes or ()) for token in logprobs.content).decode() == text(answer)
    for token in logprobs.content:
        top = [candidate.logprob for candidate in token.top_logprobs]
        assert top == sorted(top, reverse=True)
        assert len(top) == 3
        assert token.logprob == pytest.approx(top[0], abs=1e-5)
        assert token.logprob <= 0


def test_extensions_beside_openais_fields_are_taken(openai: OpenAI) -> None:
    hello: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Say only: hi"}]
    answer = openai.chat.completions.create(
        model=MODEL,
        messages=hello,
        max_tokens=60,
        seed=1,
        extra_body={"ignore_eos": True, "top_k": 1, "min_p": 0.1, "repeat_penalty": 1.1},
    )
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 60
    assert answer.choices[0].finish_reason == "length"


def test_models_are_listed_and_retrieved(openai: OpenAI) -> None:
    listed = [model.id for model in openai.models.list()]
    assert MODEL in listed
    assert openai.models.retrieve("SmolLM2").id == MODEL


@pytest.mark.parametrize("stream", [False, True])
def test_an_unknown_model_is_a_404(openai: OpenAI, stream: bool) -> None:
    with pytest.raises(sdk.NotFoundError) as caught:
        openai.chat.completions.create(model="no-such-model", messages=SEA, stream=stream)
    assert (caught.value.code, caught.value.status_code) == ("model_not_found", 404)
    assert "no-such-model" in caught.value.message


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_is_too_long_is_a_400_with_both_numbers(openai: OpenAI, stream: bool) -> None:
    with pytest.raises(sdk.BadRequestError, match=r"the prompt has 90\d\d tokens but the context holds 8192") as caught:
        openai.completions.create(model=MODEL, prompt=[100] * 9001, stream=stream)
    assert caught.value.code == "context_length_exceeded"


def test_a_bad_temperature_is_named(openai: OpenAI) -> None:
    with pytest.raises(sdk.BadRequestError) as caught:
        openai.chat.completions.create(model=MODEL, messages=SEA, temperature=3)
    assert caught.value.param == "temperature"
    assert caught.value.type == "invalid_request_error"


def test_a_schema_that_cannot_be_followed_is_a_400(openai: OpenAI) -> None:
    with pytest.raises(sdk.BadRequestError) as caught:
        openai.chat.completions.create(
            model=MODEL,
            messages=SEA,
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}},
        )
    assert caught.value.code == "bad_grammar"
