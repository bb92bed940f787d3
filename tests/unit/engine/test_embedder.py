"""Workers that embed and rank, on real models."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from tests.support.minilm import (
    CLS,
    RANKING_BIAS,
    WIDTH,
    WINDOW_TOKENS,
    minilm_path,
    minilm_variant,
    ranking_weights,
    reranker_path,
)
from tests.support.model import smollm2_path

from lilliput.engine import Embed, Engine, Rank, Role, Start
from lilliput.errors import EngineDied, InputTooLong, InvalidRequest
from lilliput.llama import ModelSettings, pooled_context

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "minilm.json").read_text(encoding="utf-8"))["rows"]
TEXTS = [row["text"] for row in GOLDEN]
SAME = 0.999
"""Least cosine of an input's vectors from two batches: kernels and the order of sums depend on what else is in it."""

Matrix = npt.NDArray[np.float32]


@asynccontextmanager
async def running(
    path: Path, *, context: int = WINDOW_TOKENS, role: Role = "embed", pooling: str = "auto"
) -> AsyncIterator[Engine]:
    causal = path == smollm2_path()
    settings = pooled_context(context, causal=causal, threads=1, pooling=pooling)
    engine = Engine(Start(ModelSettings(str(path), rung="no-extra-buffers"), settings, 32, 8, role=role))
    try:
        await engine.start()
        yield engine
    finally:
        await engine.aclose()


def alike(some: Matrix, others: Matrix) -> bool:
    """Whether vectors of length 1 are the same within the tolerance, row by row."""
    return bool((some * others).sum(axis=-1).min() > SAME)


async def embed(engine: Engine, inputs: Sequence[str | list[int]], dimensions: int = 0) -> Matrix:
    answer = await engine.pooled(lambda number: Embed(number, list(inputs), dimensions))
    assert len(answer.token_counts) == len(inputs)
    return np.frombuffer(answer.rows, "<f4").reshape(len(inputs), -1)


async def test_vectors_of_minilm_equal_those_of_its_own_runtime() -> None:
    wanted = np.array([row["vector"] for row in GOLDEN])
    async with running(minilm_path()) as engine:
        found = await embed(engine, TEXTS)
        counts = (await engine.pooled(lambda number: Embed(number, TEXTS))).token_counts
    assert counts == tuple(len(row["tokens"]) for row in GOLDEN)
    cosines = (found * wanted).sum(axis=1) / np.linalg.norm(wanted, axis=1)
    assert cosines.min() > 0.9999, cosines
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


async def test_token_ids_are_taken_as_they_are() -> None:
    async with running(minilm_path()) as engine:
        assert alike(await embed(engine, [row["tokens"] for row in GOLDEN]), await embed(engine, TEXTS))
        with pytest.raises(InvalidRequest, match="token 30522 is not in the vocabulary of 30522"):
            await embed(engine, [[101, 30522, 102]])


@pytest.mark.parametrize("path", [minilm_path, smollm2_path])
async def test_inputs_of_a_batch_get_the_vectors_that_they_get_alone(path: object) -> None:
    assert callable(path)
    texts = [f"{text} {number}" for number in range(8) for text in TEXTS[:2]]
    async with running(path()) as engine:
        alone = np.concatenate([await embed(engine, [text]) for text in texts])
        together = await embed(engine, texts)
        again = await embed(engine, texts)
    assert alike(alone, together)
    assert np.array_equal(together, again)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


async def test_a_generation_model_takes_inputs_longer_than_a_pass() -> None:
    """Its chunks' means add up: the text in one piece and in three has the same vector."""
    text = " ".join(TEXTS[:6] * 8)
    async with running(smollm2_path(), context=1024) as engine:
        long, short = (await embed(engine, [text, TEXTS[0]]))[:2]
        tokens = (await engine.pooled(lambda number: Embed(number, [text]))).token_counts[0]
        alone = (await embed(engine, [TEXTS[0]]))[0]
    assert tokens > 512
    whole = pooled_context(1024, causal=False, threads=1)
    engine = Engine(Start(ModelSettings(str(smollm2_path()), rung="no-extra-buffers"), whole, 32, 1, role="embed"))
    try:
        await engine.start()
        assert alike(long, (await embed(engine, [text]))[0])
    finally:
        await engine.aclose()
    assert alike(short, alone)


@pytest.mark.parametrize("pooling", ["cls", "last"])
async def test_other_poolings_take_one_tokens_vector_also_of_chunks(pooling: str) -> None:
    text = " ".join(TEXTS[:6] * 3)
    async with running(smollm2_path(), context=1024, pooling=pooling) as engine:
        whole, cut = await embed(engine, [text, text[: len(text) // 2]])
    assert np.linalg.norm(whole) == pytest.approx(1, abs=1e-5)
    assert alike(whole, cut) == (pooling == "cls")


async def test_an_input_longer_than_the_window_is_refused_with_both_numbers() -> None:
    async with running(minilm_path()) as engine:
        with pytest.raises(InputTooLong, match=r"input 1 has 602 tokens, more than the 512 "):
            await embed(engine, ["short", "word " * 600])
        assert (await embed(engine, ["word " * 510])).shape == (1, WIDTH)


async def test_dimensions_cut_the_vector_and_give_it_length_one_again() -> None:
    async with running(minilm_path()) as engine:
        whole, short = await embed(engine, TEXTS), await embed(engine, TEXTS, 64)
        assert np.allclose(short, whole[:, :64] / np.linalg.norm(whole[:, :64], axis=1, keepdims=True), atol=1e-5)
        with pytest.raises(InvalidRequest, match="'dimensions' is 385, the model's vectors have 384"):
            await embed(engine, TEXTS, 385)


async def test_requests_take_turns() -> None:
    done: list[str] = []

    async def ask(engine: Engine, name: str, texts: Sequence[str]) -> None:
        await embed(engine, texts)
        done.append(name)

    async with running(minilm_path()) as engine:
        await asyncio.gather(ask(engine, "long", TEXTS * 40), ask(engine, "short", TEXTS[:1]))
    assert done == ["short", "long"]


async def test_a_cancelled_request_leaves_the_others_whole() -> None:
    async with running(minilm_path()) as engine:
        alone = await embed(engine, TEXTS)
        asked = asyncio.create_task(embed(engine, ["word " * 500] * 200))
        other = asyncio.create_task(embed(engine, TEXTS))
        while not engine.load.waiting:
            await asyncio.sleep(0.01)
        asked.cancel()
        assert alike(await other, alone)
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert alike(await embed(engine, TEXTS), alone)
        assert engine.load.waiting == 0


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="workers are killed by a signal")
async def test_a_dead_worker_fails_its_requests() -> None:
    async with running(minilm_path()) as engine:
        asked = asyncio.create_task(embed(engine, ["word " * 500] * 200))
        while not engine.load.waiting:
            await asyncio.sleep(0.01)
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        with pytest.raises(EngineDied):
            await asked
        with pytest.raises(EngineDied):
            await embed(engine, TEXTS)


async def test_a_rerankers_scores_are_its_classifiers(tmp_path: Path) -> None:
    """Pair by pair the score is the logistic of a known row over the vector of the pair's first token."""
    query, documents = "What does the cat do?", TEXTS[:3]
    async with running(reranker_path(tmp_path / "rank.gguf"), role="rank") as engine:
        answer = await engine.pooled(lambda number: Rank(number, query, documents))
        with pytest.raises(InputTooLong, match=r"document 0 with the query has \d+ tokens, more than the 512"):
            await engine.pooled(lambda number: Rank(number, query, ["word " * 510]))
    rows = {row["text"]: row["tokens"] for row in GOLDEN}
    async with running(minilm_variant(tmp_path / "cls.gguf", CLS)) as engine:
        mark = (await embed(engine, [[101, 102]])).shape
        assert mark == (1, WIDTH)
        pairs = [[101, 2054, 2515, 1996, 4937, 2079, 1029, 102, *rows[text][1:-1]] for text in documents]
        vectors = await embed(engine, pairs)
    scores = np.frombuffer(answer.rows, "<f4")
    assert answer.token_counts == tuple(len(pair) for pair in pairs)
    logits = np.log(scores / (1 - scores)) - RANKING_BIAS
    wanted = vectors @ ranking_weights()
    ratios = logits / wanted  # the vectors told have length 1: each pair has a length of its own, near the others'
    assert (ratios > 0).all()
    assert np.allclose(ratios, ratios.mean(), rtol=0.2)
