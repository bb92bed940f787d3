"""Plans of repositories: what is listed, in which form, and how it is judged."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio
from tests.support.model_headers import LLAMA_70B, q2_k
from tests.unit.services.plan_bench import (
    REPO,
    STEM,
    Bench,
    FakeHub,
    reasons,
    repository,
)

from lilliput.errors import (
    ModelNotFound,
)
from lilliput.fit import RAM
from lilliput.services import PlanRequest
from lilliput.units import GIB, MIB


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.aclose()


async def test_a_repository_is_planned_from_exact_sizes_and_one_header(bench: Bench) -> None:
    plan = await bench.plans.plan(PlanRequest(REPO))
    assert [variant.name for variant in plan.variants] == ["Q8_0", "Q6_K", "Q4_K_M", "Q3_K_M", "Q2_K"]
    assert (plan.chosen, plan.context_tokens, plan.slots, plan.use_case) == ("Q6_K", 8192, 1, "general")
    assert bench.hub.read == [f"{STEM}-Q2_K.gguf"]
    chosen = plan.variant("Q6_K")
    assert chosen.fits
    assert chosen.files == (f"{STEM}-Q6_K.gguf",)
    need = chosen.need[RAM]
    assert chosen.file_bytes == 57_890 * 10**6
    assert need.weights == need.weights_mapped == chosen.file_bytes - bench.hub.header.data_offset_bytes
    assert chosen.pss_bytes == chosen.total_bytes
    assert need.kv == 2560 * MIB
    assert need.weights + need.kv + need.compute + need.overhead == chosen.total_bytes
    assert chosen.total_bytes <= plan.budget[RAM].budget_bytes
    assert not chosen.estimated
    assert chosen.margin_bytes is None
    assert "over the budget of 64.0 GiB" in reasons(plan)["Q8_0"]
    with pytest.raises(KeyError):
        plan.variant("Q7_K")


async def test_a_plan_is_plain_json(bench: Bench) -> None:
    value = json.loads(json.dumps((await bench.plans.plan(PlanRequest(REPO))).to_json()))
    keys = "version model use_case machine budget context_tokens slots objective summary variants chosen notes rope"
    assert set(value) == set(keys.split())
    assert value["version"] == 1
    assert value["budget"] == {
        "ram": {
            "total_bytes": 64 * GIB,
            "available_bytes": 64 * GIB,
            "reserve_bytes": 0,
            "promised_bytes": 0,
            "held_bytes": 0,
            "use_fraction": 1.0,
            "limit_bytes": None,
            "budget_bytes": 64 * GIB,
            "because": "64.0 GiB available less 0 B in reserve",
        }
    }
    assert value["machine"]["cpu"]["model"] == "Example 9000"
    first = value["variants"][0]
    assert set(first) == {
        *("name", "files", "file_bytes", "exists", "need", "total_bytes", "setting", "offload", "estimated"),
        *("margin_bytes", "tokens_per_s", "prompt_tokens_per_s", "quality", "fits", "reason", "near_misses"),
        "pss_bytes",
    }
    kinds = ("weights", "kv", "compute", "overhead", "weights_mapped", "weights_copied", "weights_idle")
    assert set(first["need"]["ram"]) == set(kinds)
    assert set(first["setting"]) == {"context_tokens", "slots", "kv_type", "gpu_layers", "cpu_expert_layers"}
    assert set(first["tokens_per_s"]) == {"low", "mid", "high"}


async def test_a_family_is_planned_through_its_repository(bench: Bench) -> None:
    plan = await bench.plans.plan(PlanRequest("llama3.1:70b"))
    assert (plan.model, plan.chosen) == ("llama3.1:70b", "Q6_K")


async def test_variants_that_a_quantization_would_make_are_listed_and_never_taken(bench: Bench) -> None:
    bench.hub = FakeHub(repository(sizes={"Q4_K_M": 42_520, "Q2_K": 26_380}))
    plan = await bench.plans.plan(PlanRequest(REPO, every_type=True))
    made = {variant.name: variant for variant in plan.variants if not variant.exists}
    assert {"BF16", "Q8_0", "Q6_K", "Q5_K_M", "IQ4_XS", "IQ2_XXS"} <= set(made)
    assert not {"Q4_K_M", "Q2_K"} & set(made)
    assert plan.chosen == "Q4_K_M"
    for name, published in (("Q8_0", 74_980), ("Q6_K", 57_890), ("Q3_K_M", 34_270)):
        assert made[name].file_bytes == pytest.approx(published * 10**6, rel=0.002)
    assert made["Q6_K"].fits
    assert "a quantization would have to make it first" in made["Q6_K"].reason
    assert made["Q6_K"].files == ()
    assert made["IQ2_XXS"].reason.endswith("; making it needs an importance matrix")
    assert "matrix" not in made["Q6_K"].reason + made["TQ1_0"].reason
    assert "MXFP4_MOE" not in made, "without experts it is Q8_0"


async def test_an_architecture_that_llama_cpp_does_not_know_is_planned_by_formula(bench: Bench) -> None:
    bench.hub = FakeHub(header=replace(LLAMA_70B, architecture="llamanext").header(q2_k))
    plan = await bench.plans.plan(PlanRequest(REPO))
    assert plan.chosen == "Q6_K"
    chosen = plan.variant("Q6_K")
    assert chosen.estimated
    guessed = chosen.total_bytes - chosen.need[RAM].weights
    assert chosen.margin_bytes == round(guessed * 0.1)
    assert chosen.need[RAM].kv == 2560 * MIB
    assert any("llama.cpp would not plan this model" in note and "unknown model" in note for note in plan.notes)


async def test_an_unknown_family_is_told(bench: Bench) -> None:
    with pytest.raises(ModelNotFound, match="no family is called 'llamma'"):
        await bench.plans.plan(PlanRequest("llamma"))


async def test_what_llama_cpp_would_not_load_does_not_fit(bench: Bench) -> None:
    header = LLAMA_70B.header(q2_k)
    bench.hub = FakeHub(header=replace(header, metadata={**header.metadata, "llama.attention.head_count": 7}))
    plan = await bench.plans.plan(PlanRequest(REPO))
    assert plan.chosen is None
    assert not plan.fitting
    assert all("llama.cpp would not load it: " in reason for reason in reasons(plan).values())
