"""What clients may ask of chat and completions, how it is understood, and how it is refused."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from tests.api.fakes import MODEL, Fakes

from lilliput.services.requests import ChatRequest, JsonConstraint, Limits, Sampling

USER = {"role": "user", "content": "hi"}
CHAT: dict[str, Any] = {"model": MODEL.name, "messages": [USER]}
TEXT: dict[str, Any] = {"model": MODEL.name, "prompt": "x"}


async def chat(http: httpx.AsyncClient, **fields: Any) -> httpx.Response:
    return await http.post("/v1/chat/completions", json={**CHAT, **fields})


async def test_all_fields_reach_the_generator(http: httpx.AsyncClient, fakes: Fakes) -> None:
    fakes.generator.steps = []
    answer = await chat(
        http,
        n=2,
        max_tokens=9,
        max_completion_tokens=5,
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        min_p=0.05,
        repeat_penalty=1.1,
        frequency_penalty=-0.5,
        presence_penalty=0.5,
        seed=-7,
        logit_bias={"42": -100, "7": 1.5},
        stop=["a", "", "b"],
        ignore_eos=True,
        context_overflow="slide",
        n_keep=-1,
        speculation="off",
        keep_alive="10m",
        logprobs=True,
        top_logprobs=3,
        reasoning_effort="none",
        chat_template_kwargs={"style": "brief"},
        foo="ignored",
        user="u",
        store=False,
    )
    assert answer.status_code == 200
    assert fakes.generator.asked == [
        ChatRequest(
            model=MODEL.name,
            messages=[USER],
            n=2,
            sampling=Sampling(
                temperature=0.5,
                top_k=40,
                top_p=0.9,
                min_p=0.05,
                repeat_penalty=1.1,
                frequency_penalty=-0.5,
                presence_penalty=0.5,
                seed=-7,
                logit_bias={42: -100.0, 7: 1.5},
            ),
            limits=Limits(5, ("a", "b"), True, 3, keep_alive_s=600, keep_tokens=-1, caller="127.0.0.1"),
            speculation=False,
            template_arguments={"style": "brief", "reasoning_effort": "none", "enable_thinking": False},
        )
    ]


async def test_nulls_mean_defaults(http: httpx.AsyncClient, fakes: Fakes) -> None:
    names = "n max_tokens max_completion_tokens temperature top_p top_k min_p repeat_penalty frequency_penalty stream"
    names += " presence_penalty seed logit_bias stop ignore_eos logprobs top_logprobs response_format tools tool_choice"
    names += " functions function_call modalities audio stream_options chat_template_kwargs speculation"
    names += " context_overflow n_keep keep_alive"
    answer = await chat(http, **dict.fromkeys(names.split()))
    assert answer.status_code == 200
    assert fakes.generator.asked == [ChatRequest(MODEL.name, [USER], limits=Limits(caller="127.0.0.1"))]


@pytest.mark.parametrize("stream", [False, True])
async def test_what_the_engine_had_to_give_up_is_told(http: httpx.AsyncClient, fakes: Fakes, stream: bool) -> None:
    assert "x-lilliput-degraded" not in (await chat(http, stream=stream)).headers
    fakes.generator.given_up = ("a KV cache in q8_0 (because of 5% memory)", "caf\u00e9\r\nx: y")
    told = (await chat(http, stream=stream)).headers["x-lilliput-degraded"]
    assert told == "a KV cache in q8_0 (because of 5%25 memory); caf%C3%A9%0D%0Ax: y"


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [], "tool_choice": "none"},
        {"tool_choice": "auto", "functions": []},
        {"modalities": ["text"]},
        {"max_tokens": -1},
        {"top_k": -1},
        {"stop": "x"},
        {"response_format": {"type": "text"}},
    ],
)
async def test_what_asks_for_nothing_special_is_fine(http: httpx.AsyncClient, fields: dict[str, Any]) -> None:
    assert (await chat(http, **fields)).status_code == 200


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"function_call": {"name": "f"}}, "function_call"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "alloy", "format": "wav"}}, "audio"),
        ({"web_search_options": {"user_location": None}}, "web_search_options"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
            "messages[0].content[0]",
        ),
    ],
)
async def test_what_is_not_supported_is_said_to_be_so(
    http: httpx.AsyncClient, fields: dict[str, Any], param: str
) -> None:
    answer = await chat(http, **fields)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("unsupported_parameter", param)
    assert param in error["message"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"min_p": 1.5}, "min_p"),
        ({"speculation": "on"}, "speculation"),
        ({"speculation": True}, "speculation"),
        ({"top_k": -2}, "top_k"),
        ({"repeat_penalty": 0}, "repeat_penalty"),
        ({"frequency_penalty": 3}, "frequency_penalty"),
        ({"presence_penalty": -3}, "presence_penalty"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": -2}, "max_completion_tokens"),
        ({"n": 0}, "n"),
        ({"n": 1000}, "n"),
        ({"seed": 2**70}, "seed"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": [1]}, "stop"),
        ({"logit_bias": {"hello": "x"}}, "logit_bias"),
        ({"logit_bias": {"1": 101}}, "logit_bias"),
        ({"logit_bias": [1]}, "logit_bias"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"model": ""}, "model"),
        ({"model": 7}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [USER, {"role": "wizard", "content": "x"}]}, "messages[1].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [7]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": 7}}},
            "response_format.json_schema.schema",
        ),
        ({"chat_template_kwargs": {"enable_thinking": "false"}}, "chat_template_kwargs.enable_thinking"),
        ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs.messages"),
        ({"stream_options": {"include_usage": "maybe"}}, "stream_options.include_usage"),
    ],
)
async def test_wrong_values_are_refused_by_name(http: httpx.AsyncClient, fields: dict[str, Any], param: str) -> None:
    answer = await chat(http, **fields)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == param
    assert param in error["message"]
    assert error["type"] == "invalid_request_error"


async def test_missing_fields_are_named_together(http: httpx.AsyncClient) -> None:
    error = (await http.post("/v1/chat/completions", json={})).json()["error"]
    assert error["message"] == "'model' is required; 'messages' is required"
    assert error["param"] == "model"


@pytest.mark.parametrize(
    ("wanted", "constraint"),
    [
        ({"type": "json_object"}, JsonConstraint()),
        ({"type": "json_object", "schema": {"type": "array"}}, JsonConstraint({"type": "array"})),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": {"a": 1}}}, JsonConstraint({"a": 1})),
        ({"type": "json_schema", "json_schema": {"name": "x"}}, JsonConstraint()),
    ],
)
async def test_response_formats_become_constraints(
    http: httpx.AsyncClient, fakes: Fakes, wanted: dict[str, Any], constraint: JsonConstraint
) -> None:
    assert (await chat(http, response_format=wanted)).status_code == 200
    assert fakes.generator.asked[0].constraint == constraint


async def test_a_sloppy_history_is_accepted(http: httpx.AsyncClient, fakes: Fakes) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}", "parsed_arguments": {}}}
    answer = await chat(
        http,
        messages=[
            {"role": "developer", "content": [{"type": "text", "text": "a", "prompt_cache_breakpoint": {}}, "b"]},
            {
                "role": "assistant",
                "content": None,
                "refusal": None,
                "annotations": [],
                "audio": None,
                "tool_calls": [call],
            },
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "42"}], "name": None},
            {
                "role": "assistant",
                "content": [{"type": "refusal", "refusal": "no"}],
                "function_call": None,
                "parsed": None,
            },
            {"role": "assistant", "content": "x", "reasoning_content": "thought", "tool_calls": []},
        ],
    )
    assert answer.status_code == 200
    (asked,) = fakes.generator.asked
    assert isinstance(asked, ChatRequest)
    assert asked.messages == [
        {"role": "developer", "content": "ab"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "42", "tool_call_id": "c1"},
        {"role": "assistant", "content": "no"},
        {"role": "assistant", "content": "x", "reasoning_content": "thought"},
    ]


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"prompt": []}, "prompt", "invalid_request"),
        ({"prompt": [[]]}, "prompt", "invalid_request"),
        ({"prompt": ["a", 1]}, "prompt", "invalid_request"),
        ({"prompt": [True]}, "prompt", "invalid_request"),
        ({"prompt": [-1]}, "prompt", "invalid_request"),
        ({"prompt": None}, "prompt", "invalid_request"),
        ({"prompt": ["a"] * 300}, "prompt", "invalid_request"),
        ({"logprobs": 6}, "logprobs", "invalid_request"),
        ({"best_of": 1, "n": 2}, "best_of", "invalid_request"),
        ({"best_of": 3, "n": 2}, "best_of", "unsupported_parameter"),
        ({"suffix": "end"}, "suffix", "unsupported_parameter"),
        ({"echo": True, "logprobs": 1}, "echo", "unsupported_parameter"),
        ({"echo": True, "prompt": [1, 2]}, "echo", "unsupported_parameter"),
    ],
)
async def test_wrong_completions_are_refused_by_name(
    http: httpx.AsyncClient, fields: dict[str, Any], param: str, code: str
) -> None:
    answer = await http.post("/v1/completions", json={**TEXT, **fields})
    assert answer.status_code == 400
    assert (answer.json()["error"]["param"], answer.json()["error"]["code"]) == (param, code)


async def test_an_echo_begins_every_choice_with_its_prompt(http: httpx.AsyncClient, fakes: Fakes) -> None:
    fakes.generator.steps = []
    fields = {"prompt": ["a", "b"], "n": 2, "echo": True, "suffix": None, "best_of": 2}
    answer = await http.post("/v1/completions", json={**TEXT, **fields})
    assert [choice["text"] for choice in answer.json()["choices"]] == ["a", "a", "b", "b"]


@pytest.mark.parametrize("kind", ["", "text/plain; charset=utf-8", "application/x-www-form-urlencoded"])
async def test_json_needs_no_content_type(http: httpx.AsyncClient, kind: str) -> None:
    headers = {"content-type": kind} if kind else {}
    body = b'{"model": "smollm2:135m", "prompt": "x"}'
    assert (await http.post("/v1/completions", content=body, headers=headers)).status_code == 200


async def test_the_list_of_models_has_one_face_with_and_without_a_slash(http: httpx.AsyncClient) -> None:
    plain, slashed = await http.get("/v1/models"), await http.get("/v1/models/")
    assert plain.json() == slashed.json()
    assert plain.json()["has_more"] is False
    assert plain.json()["first_id"] == MODEL.name
    assert plain.json()["data"][0] == {
        "id": MODEL.name,
        "object": "model",
        "type": "model",
        "created": 1_767_225_600,
        "created_at": "2026-01-01T00:00:00Z",
        "owned_by": "HuggingFaceTB",
        "display_name": MODEL.name,
        "lifecycle": "active",
    }


async def test_an_empty_list_of_models_is_a_list(http: httpx.AsyncClient, fakes: Fakes) -> None:
    fakes.models.installed.clear()
    answer = (await http.get("/v1/models")).json()
    assert answer == {"object": "list", "data": [], "has_more": False, "first_id": None, "last_id": None}


@pytest.mark.parametrize(
    ("given", "keep"),
    [
        ({"context_overflow": "slide"}, 0),
        ({"context_overflow": "slide", "n_keep": 40}, 40),
        ({"context_overflow": "error", "n_keep": 40}, None),
        ({"n_keep": 40}, None),
    ],
)
async def test_a_context_slides_only_where_that_is_asked(
    http: httpx.AsyncClient, fakes: Fakes, given: dict[str, Any], keep: int | None
) -> None:
    assert (await http.post("/v1/completions", json={**TEXT, **given})).status_code == 200
    assert fakes.generator.asked[0].limits.keep_tokens == keep


@pytest.mark.parametrize("wrong", [{"context_overflow": "shift"}, {"n_keep": -2}, {"n_keep": 1.5}])
async def test_an_impossible_slide_is_refused_by_name(http: httpx.AsyncClient, wrong: dict[str, Any]) -> None:
    answer = await chat(http, **wrong)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, next(iter(wrong)))
