"""What the routes for embeddings and rankings take, refuse and answer."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import httpx
import pytest
from tests.api.fakes import MODEL, Fakes

from lilliput.errors import Busy, InputTooLong
from lilliput.services.embed import EmbeddingRequest, RankRequest

BODY: dict[str, Any] = {"model": MODEL.name, "input": "text"}
RANK: dict[str, Any] = {"model": MODEL.name, "query": "what?", "documents": ["a", {"text": "b"}, "c"]}


async def embed(http: httpx.AsyncClient, **fields: Any) -> httpx.Response:
    return await http.post("/v1/embeddings", json={**BODY, **fields})


async def test_vectors_come_as_numbers_or_as_base64(http: httpx.AsyncClient) -> None:
    answer = (await embed(http, input=["a", "b"])).json()
    assert [one["index"] for one in answer["data"]] == [0, 1]
    assert answer["data"][1]["embedding"] == pytest.approx([0.6, 0.8])
    assert (answer["object"], answer["model"]) == ("list", MODEL.name)
    assert answer["usage"] == {"prompt_tokens": 6, "total_tokens": 6}
    packed = (await embed(http, encoding_format="base64")).json()["data"][0]["embedding"]
    assert struct.unpack("<2f", base64.b64decode(packed)) == pytest.approx((0.6, 0.8))


@pytest.mark.parametrize(
    ("given", "read"),
    [("a", ("a",)), (["a", "b"], ("a", "b")), ([1, 2], ((1, 2),)), ([[1], [2, 3]], ((1,), (2, 3)))],
)
async def test_inputs_are_read_in_all_forms(
    http: httpx.AsyncClient, fakes: Fakes, given: object, read: tuple[Any, ...]
) -> None:
    assert (await embed(http, input=given, dimensions=2, user="me")).status_code == 200
    assert fakes.embedder.asked == [EmbeddingRequest(MODEL.name, read, 2, "127.0.0.1")]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": [1, "a"]}, "input"),
        ({"input": [[]]}, "input"),
        ({"input": None}, "input"),
        ({"input": "\ud800"}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": True}, "dimensions"),
        ({"model": ""}, "model"),
    ],
)
async def test_wrong_fields_are_named(
    http: httpx.AsyncClient, fakes: Fakes, fields: dict[str, Any], param: str
) -> None:
    answer = await http.post("/v1/embeddings", content=json.dumps({**BODY, **fields}))
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["type"]) == (400, param, "invalid_request_error")
    assert fakes.embedder.asked == []


async def test_refusals_keep_openais_shape(http: httpx.AsyncClient, fakes: Fakes) -> None:
    fakes.embedder.refusal = InputTooLong("input 0 has 600 tokens, more than the 512", hint="split it")
    answer = await embed(http)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    fakes.embedder.refusal = Busy("full", retry_after_s=2)
    assert (await embed(http)).headers["retry-after"] == "2"
    assert (await http.post("/rerank", json=RANK)).json()["error"]["type"] == "server_error"


@pytest.mark.parametrize("route", ["/v1/rerank", "/rerank"])
async def test_rankings_begin_with_the_most_relevant(http: httpx.AsyncClient, fakes: Fakes, route: str) -> None:
    answer = (await http.post(route, json=RANK)).json()
    assert fakes.embedder.asked == [RankRequest(MODEL.name, "what?", ("a", "b", "c"), "127.0.0.1")]
    assert [one["index"] for one in answer["results"]] == [2, 1, 0]
    assert answer["results"][0]["relevance_score"] == pytest.approx(0.2)
    assert answer["usage"]["total_tokens"] == 15
    top = (await http.post(route, json={**RANK, "top_n": 1, "return_documents": True})).json()["results"]
    assert top == [{"index": 2, "relevance_score": pytest.approx(0.2), "document": {"text": "c"}}]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"query": ""}, "query"),
        ({"documents": []}, "documents"),
        ({"documents": "a"}, "documents"),
        ({"documents": ["a", ""]}, "documents"),
        ({"documents": [{"title": "a"}]}, "documents"),
        ({"top_n": 0}, "top_n"),
    ],
)
async def test_wrong_fields_of_rankings_are_named(http: httpx.AsyncClient, fields: dict[str, Any], param: str) -> None:
    answer = await http.post("/rerank", json={**RANK, **fields})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
