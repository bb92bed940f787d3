"""Embeddings and rankings of a real daemon: the official client, real models."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai as sdk
import psutil
import pytest
from openai import OpenAI
from tests.functional.conftest import MODEL, ONE_THREAD
from tests.support.daemon import DaemonProcess
from tests.support.minilm import WIDTH, WINDOW_TOKENS, minilm_path, reranker_path
from tests.support.watching import engines, wait_until

from lilliput_client import Client

pytestmark = pytest.mark.functional

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "minilm.json").read_text(encoding="utf-8"))["rows"]
TEXTS = [row["text"] for row in GOLDEN]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """A daemon of these tests' own, for they leave engines of other roles behind."""
    with DaemonProcess(tmp_path_factory.mktemp("embeddings"), ONE_THREAD) as daemon:
        yield daemon


@pytest.fixture
def client(served: DaemonProcess) -> Iterator[OpenAI]:
    """The official client as it comes: it asks for base64 by itself, which its strict mode then would not read."""
    with OpenAI(base_url=f"{served.url}/v1", api_key="x", max_retries=0, timeout=120) as client:
        yield client


def minilm() -> str:
    """The name of the embedding model: its path."""
    return str(minilm_path())


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    return math.sumprod(one, other) if hasattr(math, "sumprod") else sum(a * b for a, b in zip(one, other, strict=True))


def test_the_official_client_gets_the_models_own_vectors(client: OpenAI, openai: OpenAI) -> None:
    answer = client.embeddings.create(model=minilm(), input=TEXTS)
    assert [one.index for one in answer.data] == list(range(len(TEXTS)))
    assert min(cosine(one.embedding, row["vector"]) for one, row in zip(answer.data, GOLDEN, strict=True)) > 0.999
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == sum(len(row["tokens"]) for row in GOLDEN)
    plain = openai.embeddings.create(model=minilm(), input=TEXTS, encoding_format="float")
    assert plain.data[3].embedding == pytest.approx(answer.data[3].embedding, abs=1e-6)


def test_every_form_of_input_is_taken(client: OpenAI) -> None:
    tokens = GOLDEN[0]["tokens"]
    forms: list[str | list[str] | list[int] | list[list[int]]] = [TEXTS[0], [TEXTS[0]], tokens, [tokens]]
    for form in forms:
        (one,) = client.embeddings.create(model=minilm(), input=form).data
        assert cosine(one.embedding, GOLDEN[0]["vector"]) > 0.999


def test_dimensions_shorten_vectors(client: OpenAI) -> None:
    (one,) = client.embeddings.create(model=minilm(), input=TEXTS[0], dimensions=32).data
    assert len(one.embedding) == 32
    assert cosine(one.embedding, one.embedding) == pytest.approx(1, abs=1e-5)
    with pytest.raises(sdk.BadRequestError, match=f"'dimensions' is 1000, the model's vectors have {WIDTH}"):
        client.embeddings.create(model=minilm(), input="x", dimensions=1000)


def test_a_generation_model_embeds_beside_its_chats(client: OpenAI, http: httpx.Client) -> None:
    texts = [f"Sentence number {number} about the weather." for number in range(16)]
    client.completions.create(model=MODEL, prompt="One, two,", max_tokens=2)
    together = client.embeddings.create(model=MODEL, input=texts).data
    again = client.embeddings.create(model=MODEL, input=texts).data
    assert [one.embedding for one in together] == [one.embedding for one in again]
    for index in (0, 7, 15):
        (alone,) = client.embeddings.create(model=MODEL, input=texts[index]).data
        assert cosine(alone.embedding, together[index].embedding) > 0.999
        assert cosine(alone.embedding, alone.embedding) == pytest.approx(1, abs=1e-5)
    assert {one["role"] for one in engines(http) if one["model"] == MODEL} >= {"generate", "embed"}


def test_what_cannot_be_embedded_is_told_in_openais_form(client: OpenAI) -> None:
    with pytest.raises(sdk.BadRequestError, match=r"input 1 has 602 tokens, more than the 512 ") as refused:
        client.embeddings.create(model=minilm(), input=["fine", "word " * 600])
    assert refused.value.code == "context_length_exceeded"
    with pytest.raises(sdk.BadRequestError) as refused:
        client.embeddings.create(model=minilm(), input=["fine", ""])
    assert refused.value.param == "input"
    with pytest.raises(sdk.NotFoundError):
        client.embeddings.create(model="nobody/knows-it", input="x")
    with pytest.raises(sdk.BadRequestError, match="embedding model and cannot write text; use /v1/embeddings"):
        client.completions.create(model=minilm(), prompt="x")


def test_an_encoders_plan_is_llama_cpps_own_and_what_its_engine_holds(openai: OpenAI, http: httpx.Client) -> None:
    plan = http.get("/lilliput/plan", params={"model": minilm()}).raise_for_status().json()
    (variant,) = plan["variants"]
    assert (variant["fits"], variant["estimated"], variant["need"]["ram"]["kv"]) == (True, False, 0)
    assert variant["setting"]["context_tokens"] == WINDOW_TOKENS
    openai.embeddings.create(model=minilm(), input=["word " * 500] * 4, encoding_format="float")
    (engine,) = [one for one in engines(http) if one["model"] == minilm()]
    assert (engine["role"], engine["context_tokens"]) == ("embed", WINDOW_TOKENS)
    held = psutil.Process(engine["pid"]).memory_full_info()
    assert held.uss <= variant["total_bytes"] * 1.1, (held, variant)


@pytest.mark.parametrize("route", ["/v1/rerank", "/rerank"])
def test_a_reranker_ranks(http: httpx.Client, tmp_path: Path, route: str) -> None:
    model = str(reranker_path(tmp_path / "ranker.gguf"))
    body = {"model": model, "query": "Where is the cat?", "documents": [TEXTS[0], {"text": TEXTS[2]}, TEXTS[4]]}
    answer = http.post(route, json=body).raise_for_status().json()
    scores = [one["relevance_score"] for one in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    assert sorted(one["index"] for one in answer["results"]) == [0, 1, 2]
    best = http.post(route, json=body | {"top_n": 1, "return_documents": True}).json()["results"]
    assert len(best) == 1
    assert best[0]["index"] == answer["results"][0]["index"]
    assert best[0]["document"]["text"] == TEXTS[2 * best[0]["index"]]
    assert best[0]["relevance_score"] == pytest.approx(scores[0], abs=1e-3)
    refused = http.post("/v1/embeddings", json={"model": model, "input": "x"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "model")
    other = http.post(route, json=body | {"model": MODEL})
    assert other.status_code == 400
    assert "is no reranker" in other.json()["error"]["message"]


def test_the_client_embeds(served: DaemonProcess) -> None:
    with Client(served.url) as client:
        answer = client.embed(minilm(), TEXTS[:2])
        assert all(cosine(vector, row["vector"]) > 0.999 for vector, row in zip(answer.vectors, GOLDEN, strict=False))
        assert answer.usage is not None
        assert answer.usage.prompt_tokens == sum(len(row["tokens"]) for row in GOLDEN[:2])
        assert len(client.embed(minilm(), "one", 16).vectors[0]) == 16


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="workers are killed by a signal")
def test_a_killed_worker_is_started_again_for_the_request_it_had(http: httpx.Client, client: OpenAI) -> None:
    client.embeddings.create(model=minilm(), input="warm")
    with ThreadPoolExecutor(1) as background:
        asked = background.submit(lambda: client.embeddings.create(model=minilm(), input=["word " * 400] * 24))
        wait_until(lambda: bool(busy(http)))
        (killed,) = busy(http)
        os.kill(killed, signal.SIGKILL)
        answer = asked.result(timeout=100)
    assert len(answer.data) == 24
    (again,) = [one for one in engines(http) if one["model"] == minilm()]
    assert again["pid"] != killed


def busy(http: httpx.Client) -> list[int]:
    """The processes of engines at work."""
    return [one["pid"] for one in engines(http) if one["active"] or one["waiting"]]
