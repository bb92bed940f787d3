"""Loads keep to the terms that were agreed on: pins, the use case with its floor, and force."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.support.minilm import WINDOW_TOKENS, minilm_path
from tests.support.model_headers import Transformer, half, q4_0
from tests.unit.services.plan_bench import Bench, FakeStore, installed

from lilliput.catalogue import InstalledFile, InstalledModel
from lilliput.errors import DoesNotFit, InvalidRequest
from lilliput.fit import RAM
from lilliput.llama import Rope
from lilliput.pool import Terms
from lilliput.services.agreements import agree, agreed, forget
from lilliput.services.targets import names_variant
from lilliput.units import GIB

PLENTY = {RAM: 8 * GIB}
MODEL = Transformer(context=8192, vocabulary=8192)


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.aclose()


@pytest.fixture
def model(tmp_path: Path) -> InstalledModel:
    return installed(tmp_path, "m", MODEL.content(half), quantization="F16", architecture="llama")


async def test_what_was_agreed_is_what_is_loaded(bench: Bench, model: InstalledModel) -> None:
    terms = Terms(context_tokens=2048, slots=3, kv_type="q8_0", gpu_layers=0)
    agree(bench.store, "m", terms)
    plan = await bench.loads.plan_load(model, PLENTY)
    assert (plan.context_tokens, plan.slots, plan.kv_type, plan.gpu_layers) == (2048, 3, "q8_0", 0)
    assert plan.terms == terms


async def test_what_is_asked_now_goes_before_and_force_is_added(bench: Bench, model: InstalledModel) -> None:
    agree(bench.store, "m", Terms(slots=3))
    assert (await bench.loads.plan_load(model, PLENTY, asked=Terms(context_tokens=4096))).terms.slots is None
    forced = await bench.loads.plan_load(model, PLENTY, asked=Terms(forced=True))
    assert (forced.slots, forced.terms) == (3, Terms(slots=3, forced=True))


async def test_what_is_pinned_is_never_given_up(bench: Bench, model: InstalledModel) -> None:
    need = (await bench.loads.plan_load(model, PLENTY)).needs[RAM]
    little = {RAM: need.total_bytes - need.kv_bytes // 4}
    assert (await bench.loads.plan_load(model, little)).kv_type == "q8_0"
    plan = await bench.loads.plan_load(model, little, asked=Terms(kv_type="f16", context_tokens=8192))
    assert (plan.kv_type, plan.context_tokens) == ("f16", 8192)
    assert plan.total_bytes > little[RAM]
    assert any(way.startswith("it fits ") for way in plan.ways)


async def test_a_longer_context_is_loaded_with_what_stretches_it(bench: Bench, model: InstalledModel) -> None:
    asked = Terms(context_tokens=16384, rope=Rope("yarn"))
    plan = await bench.loads.plan_load(model, PLENTY, asked=asked)
    assert (plan.context_tokens, plan.rope) == (16384, Rope("yarn", freq_scale=0.5))
    agree(bench.store, "m", asked)
    later = await bench.loads.plan_load(model, PLENTY)
    assert (later.terms, later.rope) == (asked, plan.rope)
    with pytest.raises(InvalidRequest, match="trained with 8192 tokens"):
        await bench.loads.plan_load(model, PLENTY, asked=Terms(context_tokens=16384))
    assert (await bench.loads.plan_load(model, PLENTY, asked=Terms(context_tokens=8192))).rope is None


async def test_a_use_case_brings_its_context_to_the_load(bench: Bench, model: InstalledModel) -> None:
    plan = await bench.loads.plan_load(model, PLENTY, asked=Terms(use_case="experiment"))
    assert plan.context_tokens == 4096


async def test_a_floor_holds_for_variant_and_cache_together(bench: Bench, tmp_path: Path) -> None:
    model = installed(tmp_path, "m", MODEL.content(half), quantization="Q5_K_M", architecture="llama")
    need = (await bench.loads.plan_load(model, PLENTY)).needs[RAM]
    little = {RAM: need.total_bytes - need.kv_bytes * 6 // 10}
    lax = await bench.loads.plan_load(model, little, asked=Terms(context_tokens=8192))
    assert lax.kv_type == "q4_0", "no floor was agreed on"
    strict = Terms(use_case="high-stakes", context_tokens=8192)
    plan = await bench.loads.plan_load(model, little, asked=strict)
    assert plan.kv_type != "q4_0"
    assert plan.total_bytes > little[RAM]
    named = Terms(use_case="high-stakes", context_tokens=8192, named=True)
    assert (await bench.loads.plan_load(model, little, asked=named)).kv_type == "q4_0"


async def test_a_variant_below_its_floor_is_refused_unless_named_or_forced(bench: Bench, tmp_path: Path) -> None:
    model = installed(tmp_path, "m", MODEL.content(q4_0), quantization="Q4_0", architecture="llama")
    with pytest.raises(DoesNotFit, match=r"m: nothing at or above Q5_K_M fits, the floor of high-stakes") as refused:
        await bench.loads.plan_load(model, PLENTY, asked=Terms(use_case="high-stakes"))
    assert "force it" in (refused.value.hint or "")
    for terms in (Terms(use_case="high-stakes", forced=True), Terms(use_case="high-stakes", named=True)):
        assert (await bench.loads.plan_load(model, PLENTY, asked=terms)).terms == terms


async def test_what_cannot_be_had_is_refused_by_name(bench: Bench, model: InstalledModel) -> None:
    for terms, param in ((Terms(gpu_layers=2), "gpu_layers"), (Terms(kv_type="q9"), "kv"), (Terms(slots=900), "slots")):
        with pytest.raises(InvalidRequest) as refused:
            await bench.loads.plan_load(model, PLENTY, asked=terms)
        assert refused.value.param == param


async def test_a_context_that_embeds_keeps_its_own_slots_and_cache(bench: Bench) -> None:
    path = minilm_path()
    model = InstalledModel("it", "file", (InstalledFile(path, path.stat().st_size),))
    asked = Terms(context_tokens=4 * WINDOW_TOKENS, slots=2, kv_type="q4_0", rope=Rope("yarn"))
    plan = await bench.loads.plan_load(model, PLENTY, "embed", asked)
    assert (plan.context_tokens, plan.kv_type, plan.rope) == (WINDOW_TOKENS, "f16", None)
    assert plan.slots > 2


def test_terms_are_kept_by_model_and_forgotten_with_it() -> None:
    store = FakeStore()
    agree(store, "a", Terms(slots=2))
    agree(store, "b", Terms(forced=True))
    agree(store, "b", Terms())
    assert (agreed(store, "a"), agreed(store, "b")) == (Terms(slots=2), Terms(forced=True))
    forget(store, "a")
    assert agreed(store, "a") == Terms()


@pytest.mark.parametrize(
    ("name", "does"),
    [
        *((name, False) for name in ("smollm2", "llama3.1:70b", "org/repo")),
        *((name, True) for name in ("llama3.1:70b-q4-k-m", "org/repo:Q4_K_M", "org/repo/file.gguf", "./file.gguf")),
    ],
)
def test_a_name_says_whether_it_means_one_variant(name: str, *, does: bool) -> None:
    assert names_variant(name) is does
