"""What a plan is asked for is kept to, or refused by its name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from tests.support.model_headers import LLAMA_70B, q2_k
from tests.unit.services.plan_bench import (
    REPO,
    Bench,
    FakeHub,
    reasons,
)

from lilliput.errors import (
    InvalidRequest,
)
from lilliput.fit import RAM
from lilliput.llama import Rope
from lilliput.services import PlanRequest
from lilliput.units import GIB, MIB


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.aclose()


async def test_a_quantization_in_the_name_is_kept_even_below_the_floor(bench: Bench) -> None:
    plan = await bench.plans.plan(PlanRequest("llama3.1:70b-q4-k-m"))
    assert plan.chosen == "Q4_K_M"
    assert plan.variant("Q6_K").fits
    assert "Q4_K_M was asked for" in reasons(plan)["Q6_K"]
    assert (await bench.plans.plan(PlanRequest(f"{REPO}:Q2_K"))).chosen == "Q2_K"
    assert (await bench.plans.plan(PlanRequest(f"{REPO}:Q8_0"))).chosen is None


async def test_context_slots_and_kv_are_used_as_asked(bench: Bench) -> None:
    asked = PlanRequest(REPO, context_tokens=32768, slots=4, kv_type="F16")
    plan = await bench.plans.plan(asked)
    assert (plan.context_tokens, plan.slots, plan.chosen) == (32768, 4, "Q4_K_M")
    assert plan.variant("Q4_K_M").need[RAM].kv == 10240 * MIB
    smaller = await bench.plans.plan(replace(asked, kv_type="q8_0"))
    assert smaller.chosen == "Q6_K"  # what the smaller cache leaves is worth more than what it loses
    assert smaller.variant("Q6_K").need[RAM].kv == 5440 * MIB
    assert (await bench.plans.plan(replace(asked, kv_type=None))).chosen == "Q6_K"


async def test_max_is_the_context_the_model_was_trained_with(bench: Bench) -> None:
    bench.memory_bytes = 96 * GIB
    plan = await bench.plans.plan(PlanRequest(REPO, context_tokens="max", kv_type="f16"))
    assert (plan.context_tokens, plan.chosen) == (131072, "Q6_K")
    chosen = plan.variant("Q6_K")
    assert chosen.setting is not None
    assert chosen.setting.context_tokens == 131072
    assert chosen.need[RAM].kv == 40 * GIB
    too_small = next(one for one in plan.variants if not one.fits)
    assert "KV at 131072" in too_small.reason


async def test_a_use_case_brings_its_floor_and_context(bench: Bench) -> None:
    coding = await bench.plans.plan(PlanRequest(REPO, use_case="coding"))
    assert coding.use_case == "coding"
    assert coding.context_tokens > 8192
    with pytest.raises(InvalidRequest, match="knitting") as caught:
        await bench.plans.plan(PlanRequest(REPO, use_case="knitting"))
    assert caught.value.param == "use_case"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"context_tokens": 0}, "context"),
        ({"context_tokens": -1}, "context"),
        ({"slots": 0}, "slots"),
        ({"budget_bytes": 0}, "budget"),
        ({"kv_type": "q3_k"}, "kv"),
        ({"machine": "cray-1"}, "machine"),
        ({"machine": {"memory": "lots"}}, "machine"),
    ],
)
async def test_impossible_requests_are_refused_with_the_field(
    bench: Bench, changes: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await bench.plans.plan(replace(PlanRequest(REPO), **changes))
    assert caught.value.param == param


async def test_the_usual_context_is_no_longer_than_the_model_s(bench: Bench) -> None:
    bench.hub = FakeHub(header=replace(LLAMA_70B, context=4096).header(q2_k))
    assert (await bench.plans.plan(PlanRequest(REPO))).context_tokens == 4096
    longer = PlanRequest(REPO, context_tokens=8192, rope=Rope("linear"))
    assert (await bench.plans.plan(longer)).context_tokens == 8192


@pytest.mark.parametrize(
    ("asked", "param"),
    [({"slots": 257}, "slots"), ({"context_tokens": 255}, "context"), ({"gpu_layers": 82}, "gpu_layers")],
)
async def test_what_llama_cpp_cannot_bear_is_refused_by_name(bench: Bench, asked: dict[str, int], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await bench.plans.plan(PlanRequest(REPO, **asked))  # type: ignore[arg-type]
    assert caught.value.param == param


async def test_layers_on_accelerators_need_one(bench: Bench) -> None:
    with pytest.raises(InvalidRequest, match="has no accelerator"):
        await bench.plans.plan(PlanRequest(REPO, gpu_layers=5))


async def test_a_context_beyond_what_the_model_was_trained_with_is_refused_unless_rope_is_told(bench: Bench) -> None:
    with pytest.raises(InvalidRequest, match="trained with 131072 tokens") as refused:
        await bench.plans.plan(PlanRequest(REPO, context_tokens=262_144))
    assert refused.value.param == "context"
    plan = await bench.plans.plan(PlanRequest(REPO, context_tokens=262_144, rope=Rope("yarn")))
    assert (plan.context_tokens, plan.rope) == (262_144, Rope("yarn", freq_scale=0.5))
    assert any("yarn stretches what it was trained with 2 times" in note for note in plan.notes)
    plain = await bench.plans.plan(PlanRequest(REPO, context_tokens=262_144, rope=Rope("none")))
    assert any("beyond them its answers get worse" in note for note in plain.notes)
    usual = await bench.plans.plan(PlanRequest(REPO))
    assert usual.rope is None
    assert not any("was trained with" in note for note in usual.notes)
