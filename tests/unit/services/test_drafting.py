"""Draft models in the plans of loads: which are taken, what they need, and what is said of those that are not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from tests.support.minilm import minilm_path
from tests.support.model import gemma_path, smollm2_path
from tests.support.model_headers import Transformer, half
from tests.unit.services.plan_bench import Bench, installed

from lilliput.catalogue import InstalledFile, InstalledModel
from lilliput.errors import InvalidRequest, ModelNotFound
from lilliput.fit import RAM
from lilliput.pool import NO_DRAFT, Terms
from lilliput.services import Drafting, LoadPlans
from lilliput.services.agreements import agree
from lilliput.units import GIB

PLENTY = {RAM: 8 * GIB}
LARGE = Transformer(blocks=8)
SMALL = Transformer(blocks=1, context=1024)


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.aclose()


@pytest.fixture
def models(tmp_path: Path) -> dict[str, InstalledModel]:
    made = {
        "large": installed(tmp_path, "large", LARGE.content(half), quantization="F16", architecture="llama"),
        "small": installed(tmp_path, "small", SMALL.content(half), quantization="F16", architecture="llama"),
    }
    for name, path in (("smollm2", smollm2_path()), ("gemma", gemma_path()), ("minilm", minilm_path())):
        made[name] = InstalledModel(name, "file", (InstalledFile(path, path.stat().st_size),))
    return made


@pytest.fixture
def loads(bench: Bench, models: dict[str, InstalledModel]) -> LoadPlans:
    async def resolve(name: str) -> InstalledModel:
        if name not in models:
            raise ModelNotFound(f"the model {name!r} is not installed")
        return models[name]

    return LoadPlans(bench.store, bench.planner, bench.defaults, drafting=Drafting(resolve, bench.planner))


async def test_a_draft_model_is_counted_in_with_a_context_as_long(
    loads: LoadPlans, models: dict[str, InstalledModel]
) -> None:
    plain = await loads.plan_load(models["large"], PLENTY, asked=Terms(context_tokens=4096))
    plan = await loads.plan_load(models["large"], PLENTY, asked=Terms(context_tokens=4096, draft="small"))
    assert plan.draft is not None
    assert (plan.draft.model, plan.draft.path, plan.draft_note) == ("small", str(models["small"].path), None)
    before, after = plain.needs[RAM], plan.needs[RAM]
    assert after.kv_bytes == pytest.approx(before.kv_bytes * 9 / 8)
    assert after.weights_bytes > before.weights_bytes
    assert after.compute_bytes > before.compute_bytes
    assert 0 < after.overhead_bytes - before.overhead_bytes < before.overhead_bytes, "they share one process"
    assert replace(plan, needs=plain.needs, terms=plain.terms, draft=None) == replace(
        plain, store_bytes=plan.store_bytes
    )


async def test_what_does_not_fit_beside_a_draft_model_is_given_up(
    loads: LoadPlans, models: dict[str, InstalledModel]
) -> None:
    asked = Terms(draft="small")
    whole = await loads.plan_load(models["large"], PLENTY, asked=asked)
    little = {RAM: whole.total_bytes - whole.needs[RAM].kv_bytes // 16}
    plan = await loads.plan_load(models["large"], little, asked=asked)
    assert plan.draft is not None
    assert plan.total_bytes <= little[RAM]
    assert plan.kv_type != whole.kv_type or plan.context_tokens < whole.context_tokens


async def test_one_that_is_not_smaller_is_taken_with_a_note(
    loads: LoadPlans, models: dict[str, InstalledModel]
) -> None:
    plan = await loads.plan_load(models["smollm2"], PLENTY, asked=Terms(draft="smollm2"))
    assert plan.draft is not None
    assert "not smaller" in (plan.draft_note or "")


@pytest.mark.parametrize(
    ("target", "draft", "told"),
    [
        ("large", "gone", "'gone' is not installed"),
        ("large", "smollm2", "smollm2 cannot draft for large: one has a tokenizer of the kind no_vocab"),
        ("large", "gemma", "gemma has attention with a sliding window"),
        ("gemma", "gemma", "gemma has attention with a sliding window"),
        ("gemma", "smollm2", "gemma has attention with a sliding window"),
        ("large", "minilm", "minilm writes no text"),
    ],
)
async def test_what_cannot_draft_is_refused_where_asked_for_and_else_left_out_with_a_note(
    bench: Bench, loads: LoadPlans, models: dict[str, InstalledModel], target: str, draft: str, told: str
) -> None:
    asked = Terms(context_tokens=1024, draft=draft)
    with pytest.raises((InvalidRequest, ModelNotFound)) as refused:
        await loads.plan_load(models[target], PLENTY, asked=asked)
    assert told in refused.value.message
    agree(bench.store, target, asked)
    plan = await loads.plan_load(models[target], PLENTY)
    assert plan.draft is None
    assert told in (plan.draft_note or "")
    assert plan.context_tokens == 1024


async def test_none_takes_it_off_again_and_embedding_knows_no_drafts(
    bench: Bench, loads: LoadPlans, models: dict[str, InstalledModel]
) -> None:
    agree(bench.store, "large", Terms(draft="small"))
    assert (await loads.plan_load(models["large"], PLENTY)).draft is not None
    embedding = await loads.plan_load(models["large"], PLENTY, "embed")
    assert (embedding.draft, embedding.draft_note) == (None, None)
    off = await loads.plan_load(models["large"], PLENTY, asked=Terms(draft=NO_DRAFT))
    assert (off.draft, off.draft_note) == (None, None)
    with pytest.raises(InvalidRequest, match="nothing can be drafted") as refused:
        await loads.plan_load(models["minilm"], PLENTY, "embed", Terms(draft="small"))
    assert refused.value.param == "draft"
