"""What models are for, and how a load for each role is planned."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.support.minilm import CLS, WINDOW_TOKENS, minilm_path, minilm_variant, reranker_path
from tests.support.model import smollm2_path
from tests.unit.services.plan_bench import Bench

from lilliput.catalogue import InstalledFile, InstalledModel
from lilliput.errors import InvalidRequest
from lilliput.fit import RAM
from lilliput.llama import POOLED_SEQUENCES
from lilliput.services.model_facts import read_facts
from lilliput.services.roles import role_of
from lilliput.units import GIB


def installed(path: Path) -> InstalledModel:
    return InstalledModel("it", "file", (InstalledFile(path, path.stat().st_size),))


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.aclose()


def test_a_files_header_tells_its_role(tmp_path: Path) -> None:
    files = {
        minilm_path(): "embed",
        minilm_variant(tmp_path / "none.gguf", None): "embed",
        minilm_variant(tmp_path / "cls.gguf", CLS): "embed",
        reranker_path(tmp_path / "rank.gguf"): "rank",
        smollm2_path(): "generate",
    }
    assert {path: role_of(read_facts([path]).header) for path in files} == files


async def test_an_encoder_is_planned_without_a_cache_and_takes_inputs_whole(bench: Bench) -> None:
    plan = await bench.loads.plan_load(installed(minilm_path()), {RAM: 8 * GIB}, "embed")
    assert (plan.role, plan.causal, plan.context_tokens) == ("embed", False, WINDOW_TOKENS)
    assert (plan.slots, plan.max_sequences) == (POOLED_SEQUENCES, POOLED_SEQUENCES)
    assert plan.needs[RAM].kv_bytes == 0
    assert plan.store_bytes == 0


async def test_a_generation_model_embeds_in_chunks_and_needs_a_cache(bench: Bench) -> None:
    model = installed(smollm2_path())
    plan = await bench.loads.plan_load(model, {RAM: 8 * GIB}, "embed")
    assert (plan.role, plan.causal, plan.context_tokens) == ("embed", True, 8192)
    assert plan.needs[RAM].kv_bytes > 0
    small = await bench.loads.plan_load(model, {RAM: plan.total_bytes - plan.needs[RAM].kv_bytes // 4}, "embed")
    assert small.context_tokens < plan.context_tokens


async def test_what_a_model_cannot_do_is_refused_before_it_is_loaded(bench: Bench, tmp_path: Path) -> None:
    room = {RAM: 8 * GIB}
    with pytest.raises(InvalidRequest, match="it is an embedding model and cannot write text"):
        await bench.loads.plan_load(installed(minilm_path()), room)
    with pytest.raises(InvalidRequest, match="it is no reranker"):
        await bench.loads.plan_load(installed(minilm_path()), room, "rank")
    ranker = installed(reranker_path(tmp_path / "rank.gguf"))
    with pytest.raises(InvalidRequest, match="it is a reranker and has no embeddings"):
        await bench.loads.plan_load(ranker, room, "embed")
    with pytest.raises(InvalidRequest, match="it is a reranker and cannot write text"):
        await bench.loads.plan_load(ranker, room)
    assert (await bench.loads.plan_load(ranker, room, "rank")).role == "rank"
