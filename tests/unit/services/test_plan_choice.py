"""Which variant a pull takes, what it refuses, and what force changes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.unit.services.plan_bench import (
    REPO,
    STEM,
    Bench,
    file,
)

from lilliput.errors import (
    DoesNotFit,
    VariantNotFound,
)
from lilliput.fit import RAM
from lilliput.hub import Repository
from lilliput.pool import Terms
from lilliput.services import PlanDefaults, PlanRequest
from lilliput.units import GIB


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.aclose()


async def test_the_choice_for_a_pull_names_variant_and_reason(bench: Bench) -> None:
    chosen = await bench.plans.choose(bench.hub.found)
    assert chosen.variant.quantization == "Q6_K"
    assert chosen.reason.startswith("the best quality that fits at 8 tokens/s or more: needs 53.9 GiB + 2.5 GiB KV")
    assert chosen.plan.chosen == "Q6_K"


async def test_less_memory_chooses_a_smaller_variant(bench: Bench) -> None:
    bench.memory_bytes = 44 * GIB
    assert (await bench.plans.choose(bench.hub.found)).variant.quantization == "Q4_K_M"


async def test_a_limit_bounds_the_choice(bench: Bench) -> None:
    bench.defaults = PlanDefaults(slots=1, limit_bytes=44 * GIB)
    assert (await bench.plans.choose(bench.hub.found)).variant.quantization == "Q4_K_M"
    bench.defaults = PlanDefaults(slots=1)
    limited = await bench.plans.plan(PlanRequest(REPO, budget_bytes=44 * GIB))
    assert limited.chosen == "Q4_K_M"
    assert limited.budget[RAM].because == "the limit set is 44.0 GiB"


async def test_nothing_at_the_floor_that_fits_is_refused_with_the_smallest_need_and_what_would_help(
    bench: Bench,
) -> None:
    bench.memory_bytes = 40 * GIB
    with pytest.raises(DoesNotFit) as caught:
        await bench.plans.choose(bench.hub.found)
    error = caught.value
    assert error.message.startswith(f"{REPO}: nothing at or above Q4_K_M fits")
    assert "the smallest of them, Q4_K_M, needs 39.6 GiB + 2.5 GiB KV at 8192, 2.4 GiB over" in error.message
    assert "Q3_K_M would fit" in error.message
    assert error.message.endswith("(budget of ram: 40.0 GiB, 40.0 GiB available less 0 B in reserve)")
    assert error.hint == "ask for Q3_K_M, or free memory, or take a smaller model, or force it"
    assert error.budget_bytes == 40 * GIB < error.need_bytes < 43 * GIB
    forced = await bench.plans.choose(bench.hub.found, terms=Terms(forced=True))
    assert forced.variant.quantization == "Q3_K_M"
    assert forced.reason.startswith("forced: fits, but is below Q4_K_M")


async def test_a_pinned_variant_that_does_not_fit_is_refused_and_another_named(bench: Bench) -> None:
    with pytest.raises(DoesNotFit, match=r": Q8_0 does not fit") as caught:
        await bench.plans.choose(bench.hub.found, "Q8_0")
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("ask for Q6_K, or")
    assert caught.value.need_bytes > 74_980 * 10**6


async def test_force_takes_what_was_asked_for_or_the_smallest(bench: Bench) -> None:
    bench.memory_bytes = 8 * GIB
    plans = bench.plans
    smallest = await plans.choose(bench.hub.found, terms=Terms(forced=True))
    assert smallest.variant.quantization == "Q2_K"
    assert smallest.reason.startswith("forced, although it needs 24.6 GiB")
    assert (await plans.choose(bench.hub.found, "Q8_0", terms=Terms(forced=True))).variant.quantization == "Q8_0"
    by_file = await plans.choose(bench.hub.found, file=f"{STEM}-Q6_K.gguf", terms=Terms(forced=True))
    assert by_file.variant.quantization == "Q6_K"


async def test_an_unknown_variant_is_refused_with_what_there_is(bench: Bench) -> None:
    with pytest.raises(VariantNotFound, match="has no IQ1_S"):
        await bench.plans.choose(bench.hub.found, "IQ1_S")
    only_removed = Repository(REPO, "c" * 40, (file(f"{STEM}-Q4_0_4_4.gguf", 10),))
    with pytest.raises(VariantNotFound, match="nothing that this version of"):
        await bench.plans.choose(only_removed, terms=Terms(forced=True))
