"""Values that JSON can spell and an engine cannot take: each is the client's mistake, named, never a 500."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from tests.api.fakes import MODEL, Fakes

from lilliput.errors import BadFile

USER = {"role": "user", "content": "hi"}
CHAT: dict[str, Any] = {"model": MODEL.name, "messages": [USER]}
TEXT: dict[str, Any] = {"model": MODEL.name, "prompt": "x"}
LONE = "\ud800"


async def refusal(http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The error that answers ``body``, sent with escapes as httpx itself would not."""
    answer = await http.post(path, content=json.dumps(body).encode())
    assert answer.status_code == 400
    error: dict[str, Any] = answer.json()["error"]
    return error


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"stop": [LONE]}, "stop[0]"),
        ({"stop": f"a{LONE}"}, "stop"),
        ({"model": LONE}, "model"),
        ({"messages": [USER, {"role": "user", "content": LONE}]}, "messages[1].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": LONE}]}]}, "messages[0].content[0].text"),
        ({"messages": [{**USER, "name": LONE}]}, "messages[0].name"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": LONE}]}]}, "messages[0].tool_calls[0].id"),
        ({"chat_template_kwargs": {"style": LONE}}, "chat_template_kwargs.style"),
        ({"chat_template_kwargs": {LONE: 1}}, "chat_template_kwargs"),
        ({"response_format": {"type": "json_object", "schema": {"enum": [LONE]}}}, "response_format.schema.enum[0]"),
        ({"reasoning_effort": LONE}, "reasoning_effort"),
    ],
)
async def test_text_that_is_no_unicode_is_refused_by_name(
    http: httpx.AsyncClient, fakes: Fakes, fields: dict[str, Any], param: str
) -> None:
    error = await refusal(http, "/v1/chat/completions", {**CHAT, **fields})
    assert error["param"] == param
    assert "lone surrogate" in error["message"]
    assert not fakes.generator.asked


async def test_prompts_that_are_no_unicode_are_refused_too(http: httpx.AsyncClient) -> None:
    assert (await refusal(http, "/v1/completions", {**TEXT, "prompt": LONE}))["param"] == "prompt"
    assert (await refusal(http, "/v1/completions", {**TEXT, "prompt": ["a", LONE]}))["param"] == "prompt[1]"


async def test_unknown_fields_and_paired_surrogates_are_welcome(http: httpx.AsyncClient, fakes: Fakes) -> None:
    body = {**TEXT, "prompt": "\U0001f98a", "user": LONE}
    answer = await http.post("/v1/completions", content=json.dumps(body).encode())
    assert answer.status_code == 200
    assert fakes.generator.asked[0].prompts == ("\U0001f98a",)  # type: ignore[union-attr]


@pytest.mark.parametrize("value", [2**31, 2**64, 10**30, True, "5", 1.5])
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "top_k", "n"])
async def test_counts_are_whole_numbers_that_an_engine_can_count_to(
    http: httpx.AsyncClient, name: str, value: object
) -> None:
    assert (await refusal(http, "/v1/chat/completions", {**CHAT, name: value}))["param"] == name


@pytest.mark.parametrize("value", [-(2**63), 0, 2**63 - 1, 2**64 - 1])
async def test_every_seed_of_64_bits_is_taken(http: httpx.AsyncClient, fakes: Fakes, value: int) -> None:
    assert (await http.post("/v1/chat/completions", json={**CHAT, "seed": value})).status_code == 200
    assert fakes.generator.asked[0].sampling.seed == value


@pytest.mark.parametrize("value", [-(2**63) - 1, 2**64, True, "7"])
async def test_no_other_seed_is_taken(http: httpx.AsyncClient, value: object) -> None:
    assert (await refusal(http, "/v1/chat/completions", {**CHAT, "seed": value}))["param"] == "seed"


@pytest.mark.parametrize("key", ["\u0663", "1" * 6000, str(2**31), "-1", "", LONE])
async def test_a_key_that_is_no_token_id_is_refused_in_few_words(http: httpx.AsyncClient, key: str) -> None:
    error = await refusal(http, "/v1/chat/completions", {**CHAT, "logit_bias": {key: 1}})
    assert error["param"] == "logit_bias"
    assert len(error["message"]) < 100
    assert "set_int_max_str_digits" not in error["message"]


async def test_a_huge_bias_is_not_repeated(http: httpx.AsyncClient) -> None:
    error = await refusal(http, "/v1/chat/completions", {**CHAT, "logit_bias": {"1": 10**400}})
    assert error["message"] == (
        "'logit_bias': has for token 1 a value that is neither false nor a number between -100 and 100"
    )


@pytest.mark.parametrize("name", ["self", "messages", "tools", "add_generation_prompt", "raise_exception"])
async def test_template_arguments_cannot_take_the_servers_names(http: httpx.AsyncClient, name: str) -> None:
    error = await refusal(http, "/v1/chat/completions", {**CHAT, "chat_template_kwargs": {name: 1}})
    assert error["param"] == f"chat_template_kwargs.{name}"


@pytest.mark.parametrize(
    ("fields", "param"), [({"n": 3, "prompt": ["x"] * 43}, "n"), ({"prompt": [[1]] * 129}, "prompt")]
)
async def test_a_request_has_at_most_128_choices_in_all(
    http: httpx.AsyncClient, fakes: Fakes, fields: dict[str, Any], param: str
) -> None:
    error = await refusal(http, "/v1/completions", {**TEXT, **fields})
    n, count = fields.get("n", 1), len(fields["prompt"])
    assert error["param"] == param
    assert f"'n' is {n} and 'prompt' has {count} prompts" in error["message"]
    assert f"{n * count} choices; at most 128" in error["message"]
    assert not fakes.generator.asked


async def test_128_choices_are_possible(http: httpx.AsyncClient, fakes: Fakes) -> None:
    fakes.generator.steps = []
    answer = await http.post("/v1/completions", json={**TEXT, "n": 2, "prompt": ["x"] * 64})
    assert answer.status_code == 200
    assert len(answer.json()["choices"]) == 128


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body"), [("/v1/chat/completions", {"messages": [USER]}), ("/v1/completions", {"prompt": "x"})]
)
async def test_a_bad_file_is_the_mistake_of_a_client_that_names_its_path(
    http: httpx.AsyncClient, fakes: Fakes, path: str, body: dict[str, Any], stream: bool
) -> None:
    fakes.generator.refusal = BadFile("it is no GGUF file", hint="look at it")
    fakes.generator.knows = lambda _: True
    for name in ("./bad.gguf", "/models/bad", "~/bad.gguf", "bad.gguf"):
        error = await refusal(http, path, {**body, "model": name, "stream": stream})
        assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "bad_file", "model")
        assert error["message"] == "it is no GGUF file; look at it"
    installed = await http.post(path, json={**body, "model": MODEL.name, "stream": stream})
    assert (installed.status_code, installed.json()["error"]["code"]) == (500, "bad_file")


async def test_counts_of_the_native_dialect_are_bounded_too(http: httpx.AsyncClient) -> None:
    error = await refusal(http, "/lilliput/pulls", {"model": "m", "context": 10**30})
    assert "'context'" in error["message"]
    for name in ("context", "slots"):
        answer = await http.get("/lilliput/plan", params={"model": "m", name: str(10**30)})
        assert answer.status_code == 400
        assert name in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/models", f"/v1/models/{MODEL.name}"])
async def test_models_may_be_asked_for_by_head(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.head(path)).status_code == 200
    assert (await http.head(f"{path}-not")).status_code == 404
