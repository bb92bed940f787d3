"""Who asks and how long they wait, as connection and headers tell it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from tests.api.fakes import MODEL, Fakes

from lilliput.api import ApiOptions, create_app
from lilliput.errors import Busy, TooManyRequests
from lilliput.services.embed import EmbeddingRequest, RankRequest
from lilliput.services.requests import Limits

TEXT: dict[str, Any] = {"model": MODEL.name, "prompt": "x"}
ROUTES = (
    ("/v1/completions", TEXT),
    ("/v1/chat/completions", {"model": MODEL.name, "messages": [{"role": "user", "content": "hi"}], "user": "eve"}),
)


@pytest.fixture
async def limited(fakes: Fakes) -> AsyncIterator[httpx.AsyncClient]:
    """A server on which requests have two minutes unless they say otherwise."""
    transport = httpx.ASGITransport(create_app(fakes.services(), options=ApiOptions(request_timeout_s=120.0)))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


def limits(fakes: Fakes) -> list[Limits]:
    return [one.limits for one in fakes.generator.asked]


@pytest.mark.parametrize(("path", "body"), ROUTES)
async def test_a_caller_is_its_key_or_its_address_never_what_the_body_says(
    http: httpx.AsyncClient, fakes: Fakes, path: str, body: dict[str, Any]
) -> None:
    for key in ("Bearer one", "bearer one ", "Bearer two", "Basic one", ""):
        await http.post(path, json=body, headers={"authorization": key} if key else {})
    one, same, two, *others = (one.caller for one in limits(fakes))
    assert one == same != two
    assert one.startswith("key ")
    assert "one" not in one
    assert others == ["127.0.0.1", "127.0.0.1"]


@pytest.mark.parametrize(("path", "body"), ROUTES)
@pytest.mark.parametrize(
    ("header", "own_s", "deadline_s"),
    [
        (None, None, 120.0),
        ("2.5", None, 2.5),
        ("1m30s", None, 90.0),
        ("600", None, 600.0),
        ("600", 5, 5.0),
        ("3", 5, 3.0),
        (None, 5, 5.0),
    ],
)
async def test_the_shorter_of_header_and_body_counts_else_the_servers_own(
    limited: httpx.AsyncClient,
    fakes: Fakes,
    path: str,
    body: dict[str, Any],
    header: str | None,
    own_s: float | None,
    deadline_s: float,
) -> None:
    headers = {} if header is None else {"x-request-timeout": header}
    answer = await limited.post(path, json=body | {"deadline_s": own_s}, headers=headers)
    assert answer.status_code == 200
    assert limits(fakes) == [Limits(caller="127.0.0.1", deadline_s=deadline_s)]


@pytest.mark.parametrize("header", ["", "soon", "-1", "0", "nan", "inf", "2d", "1e9"])
@pytest.mark.parametrize("path", ["/v1/completions", "/lilliput/engines"])
async def test_a_header_that_is_no_time_is_refused_by_name(http: httpx.AsyncClient, header: str, path: str) -> None:
    answer = await http.post(path, json=TEXT, headers={"x-request-timeout": header})
    assert answer.status_code == 400
    assert "X-Request-Timeout" in answer.json()["error"]["message"]
    assert answer.json()["error"]["param"] == "x-request-timeout"


async def test_vectors_and_rankings_know_their_caller_and_deadline(limited: httpx.AsyncClient, fakes: Fakes) -> None:
    await limited.post("/v1/embeddings", json={"model": MODEL.name, "input": "a"}, headers={"x-request-timeout": "7"})
    await limited.post("/v1/rerank", json={"model": MODEL.name, "query": "q", "documents": ["a"]})
    assert fakes.embedder.asked == [
        EmbeddingRequest(MODEL.name, ("a",), caller="127.0.0.1", deadline_s=7.0),
        RankRequest(MODEL.name, "q", ("a",), caller="127.0.0.1", deadline_s=120.0),
    ]


@pytest.mark.parametrize("stream", [False, True])
async def test_the_place_in_the_queue_is_told_to_those_who_wait(
    http: httpx.AsyncClient, fakes: Fakes, *, stream: bool
) -> None:
    assert "x-lilliput-queue-position" not in (await http.post("/v1/completions", json=TEXT)).headers
    fakes.generator.position = 3
    answer = await http.post("/v1/completions", json=TEXT | {"stream": stream})
    assert answer.headers["x-lilliput-queue-position"] == "3"


@pytest.mark.parametrize(
    ("refusal", "status", "kind"),
    [
        (Busy("the queue is full", retry_after_s=7.6), 503, "server_error"),
        (TooManyRequests("enough of you", retry_after_s=7.6), 429, "rate_limit_error"),
    ],
)
async def test_refusals_say_when_to_come_back(
    http: httpx.AsyncClient, fakes: Fakes, refusal: Busy, status: int, kind: str
) -> None:
    fakes.generator.refusal = refusal
    answer = await http.post("/v1/completions", json=TEXT)
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, kind)
    assert (answer.headers["retry-after"], answer.headers["retry-after-ms"]) == ("8", "7600")
