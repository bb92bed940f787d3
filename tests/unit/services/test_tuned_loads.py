"""How what was tuned goes into the plan of a load."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.support.model_headers import Transformer, half
from tests.unit.services.plan_bench import Bench, installed

from lilliput.catalogue import InstalledModel
from lilliput.fit import RAM, Repacking
from lilliput.pool import Terms
from lilliput.services import LoadPlans
from lilliput.services.tuning_choice import LoadChoices, Tuning
from lilliput.units import GIB

HALVES = Repacking({"F16": 8}, {"F16": 1.0}, experts=True, tied_output=True)


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.aclose()


@pytest.fixture
def model(tmp_path: Path) -> InstalledModel:
    shape = Transformer(context=8192, vocabulary=8192)
    return installed(tmp_path, "m", shape.content(half), quantization="F16", architecture="llama")


def tuned(bench: Bench, tuning: Tuning) -> LoadPlans:
    """Loads of a daemon that knows this of every model."""

    async def of(_model: InstalledModel) -> Tuning:
        return tuning

    return LoadPlans(bench.store, bench.planner, bench.defaults, of)


async def test_a_load_takes_what_was_measured_and_before_it_what_was_chosen(
    bench: Bench, model: InstalledModel
) -> None:
    measured = LoadChoices(flash_attention=False, threads=3, ubatch_tokens=128, width=4, repack=False)
    loads = tuned(bench, Tuning(measured, LoadChoices(threads=2, batch_threads=5, memory_lock=True)))
    plan = await loads.plan_load(model, {RAM: 8 * GIB})
    assert (plan.flash_attention, plan.threads, plan.batch_threads, plan.ubatch_tokens) == (False, 2, 5, 128)
    assert (plan.repack, plan.memory_map, plan.memory_lock) == (False, True, True)
    usual = await bench.loads.plan_load(model, {RAM: 8 * GIB})
    assert (plan.slots, plan.max_sequences, plan.context_tokens) == (
        usual.slots,
        usual.max_sequences,
        usual.context_tokens,
    )
    assert plan.needs[RAM].kv_bytes == usual.needs[RAM].kv_bytes
    assert plan.running == min(plan.slots, 4)


async def test_a_load_without_a_tuning_is_the_usual_one(bench: Bench, model: InstalledModel) -> None:
    loads = tuned(bench, Tuning())
    assert await loads.plan_load(model, {RAM: 8 * GIB}) == await bench.loads.plan_load(model, {RAM: 8 * GIB})


async def test_slots_that_were_asked_for_are_not_made_fewer_by_what_was_measured(
    bench: Bench, model: InstalledModel
) -> None:
    measured = LoadChoices(threads=3, width=2)
    room, asked = {RAM: 8 * GIB}, Terms(slots=4)
    plan = await tuned(bench, Tuning(measured)).plan_load(model, room, asked=asked)
    assert (plan.slots, plan.running, plan.threads) == (4, 4, 3)
    chosen = await tuned(bench, Tuning(measured, LoadChoices(width=3))).plan_load(model, room, asked=asked)
    assert (chosen.slots, chosen.running) == (4, 3)


async def test_weights_that_are_not_to_be_mapped_are_planned_in_anonymous_memory(
    bench: Bench, model: InstalledModel
) -> None:
    loads = tuned(bench, Tuning(LoadChoices(), LoadChoices(memory_map=False)))
    need = (await loads.plan_load(model, {RAM: 8 * GIB})).needs[RAM]
    assert need.copied_bytes == need.weights_bytes > 0
    assert (await bench.loads.plan_load(model, {RAM: 8 * GIB})).needs[RAM].copied_bytes == 0


async def test_idle_originals_are_planned_for_where_the_file_is_locked_in_memory(
    bench: Bench, model: InstalledModel
) -> None:
    bench.repacking = HALVES
    usual = (await bench.loads.plan_load(model, {RAM: 8 * GIB})).needs[RAM]
    assert usual.idle_bytes > 0
    loads = tuned(bench, Tuning(LoadChoices(), LoadChoices(memory_lock=True)))
    need = (await loads.plan_load(model, {RAM: 8 * GIB})).needs[RAM]
    assert (need.total_bytes, need.idle_bytes) == (usual.total_bytes + usual.idle_bytes, 0)


async def test_weights_that_are_not_to_be_repacked_are_planned_in_the_file(bench: Bench, model: InstalledModel) -> None:
    bench.repacking = HALVES
    usual = (await bench.loads.plan_load(model, {RAM: 8 * GIB})).needs[RAM]
    assert usual.copied_bytes > 0
    loads = tuned(bench, Tuning(LoadChoices(repack=False)))
    assert (await loads.plan_load(model, {RAM: 8 * GIB})).needs[RAM].copied_bytes == 0
