"""What the official client, in its strict mode, makes of our answers."""

from __future__ import annotations

from typing import Any

import openai as sdk
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel
from tests.api.conftest import Live
from tests.api.fakes import MODEL, USAGE, Fakes, spoken

from lilliput.errors import Busy, ContextExceeded, DoesNotFit, EngineDied
from lilliput.services.requests import (
    ChatRequest,
    ChoiceFinished,
    CompletionRequest,
    JsonConstraint,
    TextDelta,
    TokenLogprob,
)

HI: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]
LOGPROBS = (
    TokenLogprob("Hé", "Hé".encode(), -0.25, (("Hé", "Hé".encode(), -0.25), ("Oh", b"Oh", float("-inf")))),
    TokenLogprob("!", b"!", -1.5, ()),
)


def test_a_chat_in_one_piece(openai: OpenAI) -> None:
    answer = openai.chat.completions.create(model=MODEL.name, messages=HI)
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == MODEL.name
    (choice,) = answer.choices
    assert (choice.message.content, choice.finish_reason) == ("Hello wörld\u2028!", "stop")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (12, 3, 15)
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 8
    assert answer._request_id
    assert answer._request_id.startswith("req_")


def test_a_streamed_chat_comes_as_role_text_finish_usage(openai: OpenAI) -> None:
    chunks = list(
        openai.chat.completions.create(
            model=MODEL.name, messages=HI, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].delta.role for chunk in chunks[1:-1]] == [None] * 4
    assert [chunk.choices[0].delta.content for chunk in chunks[1:-2]] == ["Hel", "lo ", "wörld\u2028!"]
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert [chunk.usage is None for chunk in chunks] == [True] * 5 + [False]
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1


def test_no_usage_is_streamed_unasked(openai: OpenAI) -> None:
    chunks = list(openai.chat.completions.create(model=MODEL.name, messages=HI, stream=True))
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)


def test_the_stream_helper_gathers_several_choices(openai: OpenAI, fakes: Fakes) -> None:
    fakes.generator.steps = [*spoken("b", index=1), TextDelta(0, "a"), ChoiceFinished(0, "stop", 1), USAGE]
    with openai.chat.completions.stream(
        model=MODEL.name, messages=HI, n=2, stream_options={"include_usage": True}
    ) as stream:
        final = stream.until_done().get_final_completion()
    assert [(c.index, c.message.content, c.message.role) for c in final.choices] == [
        (0, "a", "assistant"),
        (1, "b", "assistant"),
    ]
    assert [choice.finish_reason for choice in final.choices] == ["stop", "stop"]
    assert final.usage is not None


@pytest.mark.parametrize("top_logprobs", [None, 2])
def test_log_probabilities_of_a_chat(openai: OpenAI, fakes: Fakes, top_logprobs: int | None) -> None:
    fakes.generator.steps = [TextDelta(0, "Hé!", LOGPROBS), ChoiceFinished(0, "stop", 2), USAGE]
    whole = openai.chat.completions.create(model=MODEL.name, messages=HI, logprobs=True, top_logprobs=top_logprobs)
    (asked,) = fakes.generator.asked
    assert asked.limits.top_logprobs == (top_logprobs or 0)
    streamed = list(openai.chat.completions.create(model=MODEL.name, messages=HI, logprobs=True, stream=True))
    for logprobs in (whole.choices[0].logprobs, streamed[1].choices[0].logprobs):
        assert logprobs is not None
        assert logprobs.content is not None
        first, second = logprobs.content
        assert (first.token, first.bytes, first.logprob) == ("Hé", list("Hé".encode()), -0.25)
        assert [top.logprob for top in first.top_logprobs] == [-0.25, -9999.0]
        assert second.top_logprobs == []


def test_structured_answers_are_parsed(openai: OpenAI, fakes: Fakes) -> None:
    class City(BaseModel):
        name: str
        nickname: str | None

    fakes.generator.steps = [*spoken('{"name": "Rome", ', '"nickname": null}'), USAGE]
    parsed = openai.chat.completions.parse(model=MODEL.name, messages=HI, response_format=City)
    assert parsed.choices[0].message.parsed == City(name="Rome", nickname=None)
    (asked,) = fakes.generator.asked
    assert isinstance(asked.constraint, JsonConstraint)
    assert asked.constraint.schema is not None
    assert asked.constraint.schema["required"] == ["name", "nickname"]


def test_an_answer_that_was_cut_raises_in_parse(openai: OpenAI, fakes: Fakes) -> None:
    fakes.generator.steps = [*spoken("{", reason="length"), USAGE]
    with pytest.raises(sdk.LengthFinishReasonError):
        openai.chat.completions.parse(model=MODEL.name, messages=HI)


def test_an_answer_can_be_sent_back_as_history(openai: OpenAI, fakes: Fakes) -> None:
    first = openai.chat.completions.create(model=MODEL.name, messages=HI).choices[0].message
    parsed = openai.chat.completions.parse(model=MODEL.name, messages=HI).choices[0].message
    history: list[Any] = [
        *HI,
        first,
        *HI,
        parsed.model_dump(),
        {"role": "user", "content": [{"type": "text", "text": "x"}]},
    ]
    openai.chat.completions.create(model=MODEL.name, messages=history)
    asked = fakes.generator.asked[-1]
    assert isinstance(asked, ChatRequest)
    assert asked.messages[1] == {"role": "assistant", "content": "Hello wörld\u2028!"}
    assert asked.messages[-1] == {"role": "user", "content": "x"}


def test_completions_in_one_piece_and_streamed(openai: OpenAI, fakes: Fakes) -> None:
    whole = openai.completions.create(model=MODEL.name, prompt="Once", max_tokens=5)
    assert whole.choices[0].text == "Hello wörld\u2028!"
    assert whole.usage is not None
    loose = openai.with_options()
    loose._strict_response_validation = False  # it takes the null finish_reason of OpenAI's own chunks for an error
    chunks = list(
        loose.completions.create(
            model=MODEL.name, prompt="Once", echo=True, stream=True, stream_options={"include_usage": True}
        )
    )
    assert [chunk.choices[0].text for chunk in chunks[:-1]] == ["Once", "Hel", "lo ", "wörld\u2028!", ""]
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert {chunk.object for chunk in chunks} == {"text_completion"}


def test_log_probabilities_of_a_completion(openai: OpenAI, fakes: Fakes) -> None:
    fakes.generator.steps = [
        TextDelta(0, "Hé", LOGPROBS[:1]),
        TextDelta(0, "!", LOGPROBS[1:]),
        ChoiceFinished(0, "stop", 2),
        USAGE,
    ]
    logprobs = openai.completions.create(model=MODEL.name, prompt="x", logprobs=2).choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens == ["Hé", "!"]
    assert logprobs.text_offset == [0, 2]
    assert logprobs.token_logprobs == [-0.25, -1.5]
    assert logprobs.top_logprobs == [{"Hé": -0.25, "Oh": -9999.0}, {"!": -1.5}]
    streamed = openai.with_options()
    streamed._strict_response_validation = False
    chunks = list(streamed.completions.create(model=MODEL.name, prompt="x", logprobs=0, stream=True))
    assert [c.choices[0].logprobs.text_offset for c in chunks if c.choices[0].logprobs] == [[0], [2]]


@pytest.mark.parametrize(
    ("prompt", "read"),
    [
        ("a", ("a",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
    ],
)
def test_prompts_come_in_four_forms(openai: OpenAI, fakes: Fakes, prompt: Any, read: Any) -> None:
    fakes.generator.steps = [*(e for i in range(2 * len(read)) for e in spoken(f"{i}", index=i)), USAGE]
    answer = openai.completions.create(model=MODEL.name, prompt=prompt, n=2)
    assert [(c.index, c.text) for c in answer.choices] == [(i, f"{i}") for i in range(2 * len(read))]
    (asked,) = fakes.generator.asked
    assert isinstance(asked, CompletionRequest)
    assert (asked.prompts, asked.n) == (read, 2)


def test_models_are_listed_and_found_by_encoded_names(openai: OpenAI) -> None:
    listed = list(openai.models.list())
    assert [model.id for model in listed] == [MODEL.name, "org/name:Q4_K_M"]
    assert openai.models.retrieve("org/name:Q4_K_M") == listed[1]
    assert (listed[0].created, listed[0].owned_by) == (1_767_225_600, "HuggingFaceTB")
    with pytest.raises(sdk.NotFoundError) as caught:
        openai.models.retrieve("org/none")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize("stream", [True, False])
def test_errors_before_the_first_byte_are_real_statuses(openai: OpenAI, fakes: Fakes, stream: bool) -> None:
    with pytest.raises(sdk.NotFoundError) as missing:
        openai.chat.completions.create(model="none", messages=HI, stream=stream)
    assert (missing.value.code, missing.value.type) == ("model_not_found", "invalid_request_error")
    assert missing.value.request_id
    fakes.generator.refusal = ContextExceeded(9000, 8192)
    with pytest.raises(sdk.BadRequestError, match=r"9000.*8192") as exceeded:
        openai.chat.completions.create(model=MODEL.name, messages=HI, stream=stream)
    assert exceeded.value.code == "context_length_exceeded"


def test_a_full_queue_is_tried_again_and_a_lasting_fault_is_not(openai: OpenAI, fakes: Fakes) -> None:
    patient = openai.with_options(max_retries=2)
    fakes.generator.refusal = Busy("64 requests are waiting", retry_after_s=0.01)
    with pytest.raises(sdk.InternalServerError) as busy:
        patient.chat.completions.create(model=MODEL.name, messages=HI)
    assert (busy.value.status_code, busy.value.code, len(fakes.generator.asked)) == (503, "busy", 3)
    fakes.generator.asked.clear()
    fakes.generator.refusal = DoesNotFit("too big", need_bytes=2, budget_bytes=1, hint="take a smaller one")
    with pytest.raises(sdk.InternalServerError, match="take a smaller one") as unfit:
        patient.chat.completions.create(model=MODEL.name, messages=HI)
    assert (unfit.value.status_code, unfit.value.code, len(fakes.generator.asked)) == (507, "does_not_fit", 1)


def test_an_engine_that_dies_in_mid_stream_is_an_error_in_band(openai: OpenAI, fakes: Fakes, live: Live) -> None:
    fakes.generator.steps = [TextDelta(0, "Hel"), EngineDied("the engine ended with signal 9")]
    stream = openai.chat.completions.create(model=MODEL.name, messages=HI, stream=True)
    assert [next(stream).choices[0].delta.content for _ in range(2)] == ["", "Hel"]
    with pytest.raises(sdk.APIError, match="signal 9") as caught:
        next(stream)
    assert caught.value.code == "engine_died"
    live.wait_until(lambda: fakes.generator.made[0].closed, 2)
    assert fakes.generator.made[0].closed


def test_heartbeats_keep_a_client_with_a_short_timeout(openai: OpenAI, fakes: Fakes) -> None:
    fakes.generator.steps = [0.6, *spoken("late"), USAGE]
    patient = openai.with_options(timeout=0.3)
    chunks = list(patient.chat.completions.create(model=MODEL.name, messages=HI, stream=True))
    assert chunks[1].choices[0].delta.content == "late"


def test_a_client_that_stops_reading_frees_the_answer(openai: OpenAI, fakes: Fakes, live: Live) -> None:
    fakes.generator.steps = [TextDelta(0, "Hel"), None]
    stream = openai.chat.completions.create(model=MODEL.name, messages=HI, stream=True)
    next(stream)
    stream.close()
    assert live.wait_until(lambda: fakes.generator.made[0].closed, 2) < 0.1
