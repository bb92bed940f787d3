"""The planner on machines with and without accelerators, and how loads are planned into a given room."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from tests.support.model_headers import LLAMA_70B, MIXTURE, SMALL, Transformer, half, q2_k, q4_0
from tests.unit.services.plan_bench import REPO, Bench, FakeHub, installed, repository

from lilliput.catalogue import InstalledModel
from lilliput.errors import BadFile
from lilliput.fit import RAM, MemoryNeed, Repacking
from lilliput.hardware import Accelerator
from lilliput.pool import Holding
from lilliput.services import PlanDefaults, PlanRequest
from lilliput.units import GIB, MIB

LARGER = Transformer(blocks=8, width=1024, heads=16, kv_heads=4, inner=4096, vocabulary=16384)
SMALLER = replace(LLAMA_70B, blocks=8)
"""Llama 3.1 70B with a tenth of its layers, to be loaded whole on a card."""


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.aclose()


async def test_a_described_card_gets_layers_and_scratch_there_is_an_estimate(bench: Bench) -> None:
    plan = await bench.plans.plan(PlanRequest(REPO, machine="pc-32gb-24gb-vram"))
    assert set(plan.budget) == {RAM, "CUDA0"}
    partial = plan.variant("Q3_K_M")
    assert partial.setting is not None
    assert 0 < partial.setting.gpu_layers < 81
    assert (partial.offload, partial.estimated) == ("partial", True)
    assert partial.need["CUDA0"].weights > 10 * GIB
    assert partial.need["CUDA0"].overhead == 300 * MIB
    assert partial.need["CUDA0"].kv == round(2560 * MIB / 80) * (partial.setting.gpu_layers - 1)
    assert any("a described machine" in note for note in plan.notes)
    assert any("cannot be asked about the machine's accelerators" in note for note in plan.notes)


async def test_the_types_of_plans_and_loads_here_are_told_with_whether_there_are_experts(
    bench: Bench, tmp_path: Path
) -> None:
    await bench.plans.plan(PlanRequest(REPO, machine="pc-32gb-24gb-vram"))
    assert bench.met == []  # of another machine
    await bench.plans.plan(PlanRequest(REPO))
    ((types, experts),) = bench.met
    assert {"Q2_K", "Q3_K"} <= types
    assert not experts
    bench.met.clear()
    await bench.loads.plan_load(installed(tmp_path, "experts", MIXTURE.content(half)), {RAM: 8 * GIB})
    assert bench.met == [(frozenset({"F16", "F32"}), True)]


async def test_pinned_layers_are_kept(bench: Bench) -> None:
    plan = await bench.plans.plan(PlanRequest(REPO, machine="pc-32gb-24gb-vram", gpu_layers=10))
    assert {one.setting.gpu_layers for one in plan.variants if one.setting is not None} == {10}


async def test_in_unified_memory_the_card_s_part_counts_in_ram_as_well(bench: Bench) -> None:
    bench.hub = FakeHub(repository(sizes={"Q4_0": 5_000}), header=SMALLER.header(q4_0))
    plan = await bench.plans.plan(PlanRequest(REPO, machine="macbook-m2-16gb", every_type=True, context_tokens=2048))
    ram, card = plan.budget[RAM].budget_bytes, plan.budget["MTL0"].budget_bytes
    for variant in plan.variants:
        if variant.fits:
            total = sum(need.weights + need.kv + need.compute + need.overhead for need in variant.need.values())
            device = variant.need.get("MTL0")
            assert total <= ram
            assert device is None or device.weights + device.kv + device.compute + device.overhead <= card
    assert any("accelerators use main memory" in note for note in plan.notes)
    taken = plan.variant("Q4_0")
    assert (taken.fits, taken.offload) == (True, "full")


async def test_what_engines_hold_lowers_the_budget_and_unloading_them_is_told(bench: Bench) -> None:
    bench.held = (Holding("other", {RAM: MemoryNeed(20 * GIB, 0, 0, 0)}, False, 0.0),)
    plan = await bench.plans.plan(PlanRequest(f"{REPO}:Q6_K"))
    assert plan.budget[RAM].promised_bytes == 20 * GIB
    assert plan.chosen is None
    assert "fits if `other` is unloaded, which is busy" in plan.variant("Q6_K").near_misses


async def test_idle_engines_make_room_for_what_is_pulled_and_the_plan_says_the_same(bench: Bench) -> None:
    bench.held = (Holding("other", {RAM: MemoryNeed(20 * GIB, 0, 0, 0)}, True, 0.0),)
    plan, pulled = await bench.plans.plan(PlanRequest(REPO)), await bench.plans.choose(bench.hub.found)
    assert plan.chosen == pulled.variant.quantization == "Q6_K"
    held = "`other` (20.0 GiB of ram)"
    assert f"idle engines count as gone, they make room when a model is loaded: {held}" in plan.notes
    assert pulled.reason.endswith(f"; idle engines make room for it: {held}")
    bench.held = (Holding("other", {RAM: MemoryNeed(2 * GIB, 0, 0, 0)}, True, 0.0),)
    assert "make room" not in (await bench.plans.choose(bench.hub.found)).reason


async def test_corrections_of_real_loads_are_part_of_plans_here_and_of_no_described_machine(bench: Bench) -> None:
    async def overhead(machine: str | None) -> int:
        plan = await bench.plans.plan(PlanRequest(REPO, machine=machine))
        return plan.variant("Q4_K_M").need[RAM].overhead

    before, elsewhere = await overhead(None), await overhead("pc-64gb-workstation")
    bench.correction_bytes = 123 * MIB
    assert await overhead(None) == before + 123 * MIB
    assert await overhead("pc-64gb-workstation") == elsewhere


async def test_corrections_are_asked_for_by_what_computes(bench: Bench) -> None:
    await bench.plans.plan(PlanRequest(REPO))
    assert bench.corrected == {("CPU", "none")}
    bench.accelerators = (
        Accelerator("CUDA0", "not of this build", "gpu", 8 * GIB, 8 * GIB, backend="CUDA"),
        Accelerator("CUDA1", "not of this build", "gpu", 8 * GIB, 8 * GIB, backend="CUDA"),
    )
    await bench.plans.plan(PlanRequest(REPO))
    assert bench.corrected == {("CPU", "none"), ("CUDA", "partial"), ("CUDA", "full")}


async def test_what_is_repacked_here_is_told_apart_and_the_tied_output_counted_twice(
    bench: Bench, tmp_path: Path
) -> None:
    path = tmp_path / "tied.gguf"
    path.write_bytes(Transformer(vocabulary=8192, tied=True).content(q4_0))
    plain = (await bench.plans.plan(PlanRequest(str(path)))).variants[0]
    fours = {"Q4_0": {"rows": 8, "ratio": 1.0}}
    bench.repacking = Repacking.from_mapping({"types": fours, "experts": True, "tied_output": True})
    plan = await bench.plans.plan(PlanRequest(str(path)))
    packed = plan.variants[0]
    before, need = plain.need[RAM], packed.need[RAM]
    embedding = 8192 * 256 // 32 * 18
    assert (before.weights_copied, before.weights_idle) == (0, 0)
    assert need.weights == before.weights + embedding
    assert need.weights_mapped + need.weights_copied == need.weights
    assert need.weights_copied > embedding
    assert packed.total_bytes == plain.total_bytes + embedding
    assert packed.pss_bytes == packed.total_bytes + need.weights_idle
    assert 0 < need.weights_idle < need.weights_copied
    assert any("anonymous memory" in note for note in plan.notes)
    elsewhere = await bench.plans.plan(PlanRequest(str(path), machine="pc-64gb-workstation"))
    assert elsewhere.variants[0].need[RAM].weights_copied == 0
    assert not any("anonymous memory" in note for note in elsewhere.notes)


async def test_a_load_counts_what_is_repacked_as_its_plan_does(bench: Bench, tmp_path: Path) -> None:
    model = installed(tmp_path, "t", Transformer(vocabulary=8192, tied=True).content(q4_0), architecture="llama")
    before = (await bench.loads.plan_load(model, {RAM: 8 * GIB})).needs[RAM]
    fours = {"Q4_0": {"rows": 8, "ratio": 1.0}}
    bench.repacking = Repacking.from_mapping({"types": fours, "experts": True, "tied_output": True})
    plan = await bench.loads.plan_load(model, {RAM: 8 * GIB})
    assert plan.offload == "none"
    assert plan.needs[RAM].weights_bytes == before.weights_bytes + 8192 * 256 // 32 * 18
    assert plan.needs[RAM].copied_bytes > before.copied_bytes == 0


async def test_slow_machines_take_less_for_the_sake_of_speed(bench: Bench) -> None:
    bench.bandwidth_bytes_s = 20e9
    plan = await bench.plans.plan(PlanRequest(REPO))
    assert plan.chosen == "Q4_K_M"
    slow = plan.variant("Q4_K_M").tokens_per_s
    assert slow is not None
    assert slow.low < slow.mid < 1


def small(tmp_path: Path, name: str = "m", context: int = 8192) -> InstalledModel:
    model = Transformer(context=context, vocabulary=8192)
    return installed(tmp_path, name, model.content(half), quantization="F16", architecture="llama")


async def test_a_load_uses_the_usual_settings_where_there_is_room(bench: Bench, tmp_path: Path) -> None:
    bench.defaults = PlanDefaults(slots=4)
    plan = await bench.loads.plan_load(small(tmp_path), {RAM: 8 * GIB})
    assert (plan.context_tokens, plan.slots, plan.kv_type, plan.gpu_layers) == (8192, 4, "f16", 0)
    assert plan.max_sequences == 4 + 24
    assert plan.tensor_types == {"F16", "F32"}
    assert plan.total_bytes == plan.needs[RAM].total_bytes
    assert plan.needs[RAM].kv_bytes == 4 * 8192 * 2 * 2 * 128


async def test_a_load_never_gets_a_longer_context_than_the_model_has(bench: Bench, tmp_path: Path) -> None:
    plan = await bench.loads.plan_load(small(tmp_path, context=1024), {RAM: 8 * GIB})
    assert plan.context_tokens == 1024


async def test_a_load_into_little_room_gets_a_smaller_cache_before_a_shorter_context(
    bench: Bench, tmp_path: Path
) -> None:
    model, plans = small(tmp_path), bench.loads
    whole = (await plans.plan_load(model, {RAM: 8 * GIB})).needs[RAM]
    tight = await plans.plan_load(model, {RAM: whole.total_bytes - whole.kv_bytes // 4})
    assert (tight.context_tokens, tight.kv_type) == (8192, "q8_0")
    assert tight.total_bytes <= whole.total_bytes - whole.kv_bytes // 4
    tighter = await plans.plan_load(model, {RAM: whole.total_bytes - whole.kv_bytes * 7 // 8})
    assert tighter.context_tokens < 8192
    missed = await plans.plan_load(model, {RAM: MIB})
    assert missed.total_bytes > MIB


async def test_a_file_that_llama_cpp_cannot_load_is_told(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF, or so it says")
    broken = replace(small(tmp_path), files=(replace(small(tmp_path).files[0], path=tmp_path / "bad.gguf"),))
    with pytest.raises(BadFile):
        await bench.loads.plan_load(broken, {RAM: 8 * GIB})


async def test_on_a_card_a_load_takes_as_many_layers_as_the_room_holds(bench: Bench, tmp_path: Path) -> None:
    bench.accelerators = (Accelerator("CUDA0", "not of this build", "gpu", 8 * GIB, 8 * GIB, backend="CUDA"),)
    plan = await bench.loads.plan_load(small(tmp_path), {RAM: 8 * GIB, "CUDA0": 8 * GIB})
    assert set(plan.needs) >= {RAM}


async def test_a_load_is_told_the_shares_of_several_cards(bench: Bench, tmp_path: Path) -> None:
    card = Accelerator("CUDA0", "not of this build", "gpu", 8 * GIB, 8 * GIB, backend="CUDA")
    bench.accelerators = (card, replace(card, name="CUDA1"))
    room = {RAM: 8 * GIB, "CUDA0": 6 * GIB, "CUDA1": 2 * GIB}
    plan = await bench.loads.plan_load(small(tmp_path), room)
    assert plan.gpu_layers
    assert plan.tensor_split == (48.0, 16.0)
    alone = await bench.loads.plan_load(small(tmp_path), {RAM: 8 * GIB})
    assert (alone.gpu_layers, alone.tensor_split) == (0, ())


async def test_of_installed_variants_the_plan_s_choice_is_taken_and_the_smallest_when_none_fits(
    bench: Bench, tmp_path: Path
) -> None:
    models = [
        installed(tmp_path, f"x:{name}", SMALL.content(kinds, file_type), quantization=name, architecture="llama")
        for name, kinds, file_type in (("F16", half, 1), ("Q4_0", q4_0, 2), ("Q2_K", q2_k, 10))
    ]
    plans = bench.plans
    assert (await plans.best_installed("x", models)).name == "x:F16"
    assert (await plans.best_installed("x", models[2:])).name == "x:Q2_K"
    bench.memory_bytes = MIB
    assert (await plans.best_installed("x", models)).name == "x:Q2_K"


async def test_an_installed_variant_that_is_damaged_does_not_stop_the_others(bench: Bench, tmp_path: Path) -> None:
    sound = installed(tmp_path, "x:Q4_0", SMALL.content(q4_0, 2), quantization="Q4_0", architecture="llama")
    broken = installed(tmp_path, "x:F16", b"GGUF, or so it says", quantization="F16", architecture="llama")
    assert (await bench.plans.best_installed("x", [broken, sound])).name == "x:Q4_0"
    with pytest.raises(BadFile):
        await bench.plans.best_installed("x", [broken, broken])


async def test_the_choice_among_installed_variants_does_not_change_because_it_was_loaded(
    bench: Bench, tmp_path: Path
) -> None:
    models = [
        installed(tmp_path, f"x:{name}", LARGER.content(kinds, kind), quantization=name, architecture="llama")
        for name, kinds, kind in (("F16", half, 1), ("Q4_0", q4_0, 2))
    ]
    needed = (await bench.loads.plan_load(models[0], {RAM: 64 * GIB})).needs
    bench.memory_bytes = needed[RAM].total_bytes + MIB
    assert (await bench.plans.best_installed("x", models)).name == "x:F16"
    bench.held = (Holding("x:F16", needed, True, 0.0),)
    assert (await bench.plans.best_installed("x", models)).name == "x:F16"


async def test_a_store_for_prefixes_takes_no_more_than_half_of_what_is_left(tmp_path: Path, bench: Bench) -> None:
    bench.defaults = PlanDefaults(store_bytes=256 * MIB)
    need = (await bench.loads.plan_load(small(tmp_path), {RAM: 8 * GIB})).needs[RAM].total_bytes
    for left, store in ((8 * GIB, 256 * MIB), (100 * MIB, 50 * MIB), (0, 0)):
        plan = await bench.loads.plan_load(small(tmp_path), {RAM: need + left})
        assert plan.store_bytes == store
        assert plan.reserved[RAM].total_bytes == need + store
        assert plan.needs[RAM].total_bytes == need
