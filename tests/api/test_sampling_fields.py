"""The fields of sampling and grammars: how they are understood, and how they are refused."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from tests.api.fakes import MODEL, Fakes

from lilliput.llama import SAMPLERS
from lilliput.services.requests import GrammarConstraint, JsonConstraint, Sampling

CHAT: dict[str, Any] = {"model": MODEL.name, "messages": [{"role": "user", "content": "hi"}]}
TEXT: dict[str, Any] = {"model": MODEL.name, "prompt": "x"}


async def chat(http: httpx.AsyncClient, **fields: Any) -> httpx.Response:
    return await http.post("/v1/chat/completions", json={**CHAT, **fields})


NEW_FIELDS: dict[str, Any] = {
    "repeat_last_n": -1,
    "min_keep": 2,
    "typical_p": 0.9,
    "top_n_sigma": 1.5,
    "xtc_probability": 0.5,
    "xtc_threshold": 0.2,
    "dynatemp_range": 0.3,
    "dynatemp_exponent": 1.5,
    "dry_multiplier": 0.8,
    "dry_base": 2.0,
    "dry_allowed_length": 3,
    "dry_penalty_last_n": 100,
    "mirostat": 2,
    "mirostat_tau": 4.0,
    "mirostat_eta": 0.2,
    "adaptive_target": 0.4,
    "adaptive_decay": 0.5,
}


async def test_every_sampler_can_be_set(http: httpx.AsyncClient, fakes: Fakes) -> None:
    breakers = ["\n", "!"]
    assert (await chat(http, **NEW_FIELDS, dry_sequence_breakers=breakers, min_tokens=3)).status_code == 200
    (asked,) = fakes.generator.asked
    assert asked.sampling == Sampling(**NEW_FIELDS, dry_sequence_breakers=("\n", "!"))
    assert asked.limits.min_tokens == 3


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["top_k", "Min-P", "temp"], ("top_k", "min_p", "temperature")),
        ("topk;typical_p;;nucleus", ("top_k", "typ_p", "top_p")),
        ("edskypmxta", SAMPLERS),
        ("temp", ("temperature",)),
        ("kt", ("top_k", "temperature")),
        ([], ()),
        ("", ()),
        (None, None),
    ],
)
async def test_samplers_are_named_in_their_order(
    http: httpx.AsyncClient, fakes: Fakes, given: object, meant: tuple[str, ...] | None
) -> None:
    assert (await chat(http, samplers=given)).status_code == 200
    assert fakes.generator.asked[0].sampling.samplers == meant


@pytest.mark.parametrize(
    ("given", "named"),
    [(["infill"], "adaptive_p"), ("top_k;nope", "top_n_sigma"), ("kz", "'z'"), ([7], "list"), (["xtc"] * 33, "32")],
)
async def test_an_unknown_sampler_is_answered_with_those_there_are(
    http: httpx.AsyncClient, given: object, named: str
) -> None:
    error = (await chat(http, samplers=given)).json()["error"]
    assert error["param"] == "samplers"
    assert named in error["message"]


@pytest.mark.parametrize(
    "fields",
    [
        {"typical_p": 1.1},
        {"top_n_sigma": -2},
        {"xtc_probability": -0.1},
        {"xtc_threshold": 2},
        {"dynatemp_range": -1},
        {"dynatemp_exponent": 0},
        {"dry_multiplier": -1},
        {"dry_base": 0.5},
        {"dry_allowed_length": -1},
        {"dry_penalty_last_n": -2},
        {"dry_sequence_breakers": ["x" * 41]},
        {"dry_sequence_breakers": [""]},
        {"dry_sequence_breakers": "x"},
        {"mirostat": 3},
        {"mirostat_tau": 0},
        {"mirostat_eta": 2},
        {"adaptive_target": 1.1},
        {"adaptive_decay": 1},
        {"repeat_last_n": -2},
        {"min_keep": -1},
        {"min_tokens": -1},
        {"grammar": 7},
        {"json_schema": "x"},
    ],
)
async def test_sampling_has_bounds(http: httpx.AsyncClient, fields: dict[str, Any]) -> None:
    answer = await chat(http, **fields)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].split(".")[0] == next(iter(fields))


async def test_a_bias_names_tokens_by_id_or_text_and_false_bans(http: httpx.AsyncClient, fakes: Fakes) -> None:
    banned = float("-inf")
    assert (await chat(http, logit_bias={"5": False, " dog": 2})).status_code == 200
    assert (await chat(http, logit_bias=[[5, -1], ["5", 3], [" dog", False]])).status_code == 200
    assert [asked.sampling.logit_bias for asked in fakes.generator.asked] == [
        {5: banned, " dog": 2.0},
        {5: -1.0, "5": 3.0, " dog": banned},
    ]
    for wrong in ([["a", True]], [[1]], [[-1, 2]], [[True, 2]], {"a": True}, [["", 1]], [[1.5, 1]]):
        assert (await chat(http, logit_bias=wrong)).json()["error"]["param"] == "logit_bias"


async def test_a_seed_of_minus_one_is_none(http: httpx.AsyncClient, fakes: Fakes) -> None:
    await chat(http, seed=-1)
    assert fakes.generator.asked[0].sampling.seed is None


async def test_both_routes_take_a_grammar_or_a_schema(http: httpx.AsyncClient, fakes: Fakes) -> None:
    for route, body in (("chat/completions", CHAT), ("completions", TEXT)):
        for field in ({"grammar": 'root ::= "x"'}, {"json_schema": {"type": "integer"}}):
            assert (await http.post(f"/v1/{route}", json={**body, **field})).status_code == 200
    expected = [GrammarConstraint('root ::= "x"'), JsonConstraint({"type": "integer"})]
    assert [asked.constraint for asked in fakes.generator.asked] == expected * 2


async def test_one_constraint_is_enough(http: httpx.AsyncClient) -> None:
    json_object = {"type": "json_object"}
    for fields in (
        {"grammar": "x", "response_format": json_object},
        {"grammar": "x", "json_schema": {}},
        {"json_schema": {}, "response_format": json_object},
    ):
        answer = await chat(http, **fields)
        assert answer.status_code == 400
        assert "only one of" in answer.json()["error"]["message"]


async def test_no_more_tokens_can_be_least_than_most(http: httpx.AsyncClient) -> None:
    assert (await chat(http, min_tokens=5, max_tokens=4)).json()["error"]["param"] == "min_tokens"
    assert (await chat(http, min_tokens=5, max_tokens=5)).status_code == 200
