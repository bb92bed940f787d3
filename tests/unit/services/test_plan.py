"""Plans of repositories, installed models and files: what is read, what is listed, what is chosen and refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.support.model_headers import LLAMA_70B, SMALL, Transformer, half, q2_k, q4_0
from tests.unit.services.plan_bench import REPO, STEM, Bench, FakeHub, FakeStore, file, installed, repository

from lilliput.errors import (
    BadFile,
    DoesNotFit,
    HubUnreachable,
    InvalidRequest,
    ModelNotFound,
    NotFound,
    VariantNotFound,
)
from lilliput.fit import RAM
from lilliput.gguf import Header
from lilliput.hub import Repository
from lilliput.services import Plan, PlanDefaults, PlanRequest
from lilliput.units import GIB, MIB


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.aclose()


def reasons(plan: Plan) -> dict[str, str]:
    return {variant.name: variant.reason for variant in plan.variants}


async def test_a_repository_is_planned_from_exact_sizes_and_one_header(bench: Bench) -> None:
    plan = await bench.plans.plan(PlanRequest(REPO))
    assert [variant.name for variant in plan.variants] == ["Q8_0", "Q6_K", "Q4_K_M", "Q3_K_M", "Q2_K"]
    assert (plan.chosen, plan.context_tokens, plan.slots, plan.use_case) == ("Q6_K", 8192, 1, "general")
    assert bench.hub.read == [f"{STEM}-Q2_K.gguf"]
    chosen = plan.variant("Q6_K")
    assert chosen.fits
    assert chosen.files == (f"{STEM}-Q6_K.gguf",)
    need = chosen.need[RAM]
    assert need.weights == chosen.file_bytes == 57_890 * 10**6
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
    keys = "version model use_case machine budget context_tokens slots objective summary variants chosen notes"
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
    }
    assert set(first["need"]["ram"]) == {"weights", "kv", "compute", "overhead"}
    assert set(first["setting"]) == {"context_tokens", "slots", "kv_type", "gpu_layers", "cpu_expert_layers"}
    assert set(first["tokens_per_s"]) == {"low", "mid", "high"}


async def test_a_family_is_planned_through_its_repository(bench: Bench) -> None:
    plan = await bench.plans.plan(PlanRequest("llama3.1:70b"))
    assert (plan.model, plan.chosen) == ("llama3.1:70b", "Q6_K")


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
    assert (await bench.plans.plan(PlanRequest(REPO, context_tokens=8192))).context_tokens == 8192


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


async def test_unusable_variants_are_listed_with_the_reason(bench: Bench) -> None:
    bench.hub = FakeHub(
        repository(
            file(f"{STEM}-Q5_K_M-00001-of-00002.gguf", 25_000),
            file(f"{STEM}-Q4_0_4_4.gguf", 40_000),
            file("Llama-3.2-1B-Instruct-Q8_0.gguf", 1_300),
        )
    )
    said = reasons(await bench.plans.plan(PlanRequest(REPO)))
    assert said["Q5_K_M"] == "cannot be loaded: parts of its split set are missing"
    assert said["Q4_0_4_4"].startswith("cannot be loaded: llama.cpp has removed this type")
    assert said["Llama-3.2-1B-Instruct-Q8_0"].startswith("not judged: Llama-3.2-1B-Instruct-Q8_0.gguf is another model")
    assert bench.hub.read == [f"{STEM}-Q2_K.gguf"]


async def test_all_headers_of_a_split_set_are_read_when_there_is_nothing_smaller(bench: Bench) -> None:
    parts = [f"{STEM}-Q4_K_M-{number:05}-of-00002.gguf" for number in (1, 2)]
    bench.hub = FakeHub(Repository(REPO, "a" * 40, tuple(file(part, 21_260) for part in parts)))
    whole = LLAMA_70B.header(q2_k)
    bench.hub.headers = {
        parts[0]: replace(whole, tensors=whole.tensors[:300]),
        parts[1]: Header(3, {}, whole.tensors[300:], 32, 100),
    }
    plan = await bench.plans.plan(PlanRequest(REPO))
    assert sorted(bench.hub.read) == parts
    assert plan.variant("Q4_K_M").files == tuple(parts)
    assert plan.variant("Q4_K_M").need[RAM].weights == 2 * 21_260 * 10**6
    assert plan.variant("Q4_K_M").need[RAM].kv == 2560 * MIB


async def test_a_file_in_the_name_is_planned_by_its_own_header(bench: Bench) -> None:
    small = "Llama-3.2-1B-Instruct-Q8_0.gguf"
    bench.hub = FakeHub(repository(file(small, 1_300)))
    bench.hub.headers[small] = SMALL.header(half)
    plan = await bench.plans.plan(PlanRequest(f"{REPO}/{small}"))
    assert plan.chosen == "Llama-3.2-1B-Instruct-Q8_0"
    assert bench.hub.read == [small]


async def test_one_header_a_revision_is_read_however_many_ask(bench: Bench) -> None:
    plans = bench.plans
    bench.hub.gate = asyncio.Event()
    asking = [asyncio.create_task(plans.plan(PlanRequest(REPO))) for _ in range(5)]
    while not bench.hub.read:
        await asyncio.sleep(0)
    asking[0].cancel()
    bench.hub.gate.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert all(isinstance(answer, Plan) for answer in answers[1:])
    await plans.plan(PlanRequest(REPO))
    assert len(bench.hub.read) == 1
    bench.hub.found = Repository(REPO, "b" * 40, bench.hub.found.files)
    await plans.plan(PlanRequest(REPO))
    assert len(bench.hub.read) == 2


async def test_all_who_wait_for_a_header_hear_of_its_pauses_until_they_leave(bench: Bench) -> None:
    bench.hub.gate = asyncio.Event()
    plans, heard = bench.plans, list[tuple[str, str]]()

    def hear(who: str, message: str, _wait_s: float) -> None:
        heard.append((who, message))

    choices = [asyncio.create_task(plans.choose(repository(), on_wait=partial(hear, who))) for who in "ab"]
    while bench.hub.on_wait is None:
        await asyncio.sleep(0)
    bench.hub.on_wait("slow down", 1.0)
    choices[0].cancel()
    await asyncio.wait([choices[0]])
    bench.hub.on_wait("slower", 2.0)
    bench.hub.gate.set()
    assert (await choices[1]).variant.quantization == "Q6_K"
    assert heard == [("a", "slow down"), ("b", "slow down"), ("b", "slower")]


async def test_a_failed_reading_is_told_and_tried_again(bench: Bench) -> None:
    plans = bench.plans
    bench.hub.header = Header(3, {"general.architecture": "clip"}, (), 32, 0)
    with pytest.raises(BadFile):
        await plans.plan(PlanRequest(REPO))
    bench.hub.header = LLAMA_70B.header(q2_k)
    assert (await plans.plan(PlanRequest(REPO))).chosen == "Q6_K"


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
    forced = await bench.plans.choose(bench.hub.found, force=True)
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
    smallest = await plans.choose(bench.hub.found, force=True)
    assert smallest.variant.quantization == "Q2_K"
    assert smallest.reason.startswith("forced, although it needs 24.6 GiB")
    assert (await plans.choose(bench.hub.found, "Q8_0", force=True)).variant.quantization == "Q8_0"
    by_file = await plans.choose(bench.hub.found, file=f"{STEM}-Q6_K.gguf", force=True)
    assert by_file.variant.quantization == "Q6_K"


async def test_an_unknown_variant_is_refused_with_what_there_is(bench: Bench) -> None:
    with pytest.raises(VariantNotFound, match="has no IQ1_S"):
        await bench.plans.choose(bench.hub.found, "IQ1_S")
    only_removed = Repository(REPO, "c" * 40, (file(f"{STEM}-Q4_0_4_4.gguf", 10),))
    with pytest.raises(VariantNotFound, match="nothing that this version of"):
        await bench.plans.choose(only_removed, force=True)


async def test_a_local_file_is_planned_even_when_only_its_header_is_there(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "mine.gguf"
    model = Transformer(width=512, vocabulary=65536, context=2048)
    path.write_bytes(model.content(q4_0, file_type=2))
    plan = await bench.plans.plan(PlanRequest(str(path)))
    assert (plan.chosen, plan.context_tokens) == ("Q4_0", 2048)
    (variant,) = plan.variants
    header = model.header(q4_0, file_type=2)
    assert variant.file_bytes == header.data_offset_bytes + header.weights_bytes
    assert variant.files == (str(path),)


async def test_a_missing_or_foreign_file_is_named(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"nothing\.gguf"):
        await bench.plans.plan(PlanRequest(str(tmp_path / "nothing.gguf")))
    (tmp_path / "text.gguf").write_text("hello, this is text")
    with pytest.raises(BadFile, match=r"text\.gguf"):
        await bench.plans.plan(PlanRequest(str(tmp_path / "text.gguf")))


async def test_an_installed_model_is_planned_without_the_hub(bench: Bench, tmp_path: Path) -> None:
    bench.store = FakeStore(installed(tmp_path, "smollm2:135m", SMALL.content(), quantization="Q4_1"))
    bench.hub.error = HubUnreachable("no network")
    plan = await bench.plans.plan(PlanRequest("SmolLM2:135M"))
    assert (plan.model, plan.chosen) == ("SmolLM2:135M", "Q4_1")
    other = await bench.plans.plan(PlanRequest("smollm2:135m", every_type=True))
    assert any(not variant.exists for variant in other.variants)


async def test_without_the_hub_an_installed_variant_of_the_repository_is_planned(bench: Bench, tmp_path: Path) -> None:
    bench.hub.error = HubUnreachable("no network")
    with pytest.raises(HubUnreachable):
        await bench.plans.plan(PlanRequest(REPO))
    here = installed(tmp_path, f"{REPO}:Q4_1", SMALL.content(), repo=REPO, quantization="Q4_1")
    bench.store = FakeStore(here)
    assert (await bench.plans.plan(PlanRequest("llama3.1"))).chosen == "Q4_1"
    with pytest.raises(HubUnreachable):
        await bench.plans.plan(PlanRequest(f"{REPO}:Q8_0"))


async def test_an_unknown_family_is_told(bench: Bench) -> None:
    with pytest.raises(ModelNotFound, match="no family is called 'llamma'"):
        await bench.plans.plan(PlanRequest("llamma"))


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


async def test_what_llama_cpp_would_not_load_does_not_fit(bench: Bench) -> None:
    header = LLAMA_70B.header(q2_k)
    bench.hub = FakeHub(header=replace(header, metadata={**header.metadata, "llama.attention.head_count": 7}))
    plan = await bench.plans.plan(PlanRequest(REPO))
    assert plan.chosen is None
    assert not plan.fitting
    assert all("llama.cpp would not load it: " in reason for reason in reasons(plan).values())


async def test_a_context_beyond_what_the_model_was_trained_with_is_noted(bench: Bench) -> None:
    plan = await bench.plans.plan(PlanRequest(REPO, context_tokens=200_000))
    assert any("was trained with 131072 tokens of context" in note for note in plan.notes)
    assert not any("was trained with" in note for note in (await bench.plans.plan(PlanRequest(REPO))).notes)
