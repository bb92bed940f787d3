"""Projectors and adapters: what they add to plans, and where."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from tests.support.model_headers import LLAMA_70B, SMALL, half, q4_0
from tests.unit.services.plan_bench import REPO, Bench, FakeHub, FakeStore, file, installed, repository

from lilliput.errors import NotFound, VariantNotFound
from lilliput.fit import RAM
from lilliput.services import PlanRequest
from lilliput.units import GIB

PROJECTOR = "mmproj-F16.gguf"
PROJECTOR_BYTES = 800 * 10**6
CARD = "pc-32gb-24gb-vram"


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.aclose()


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    path = tmp_path / "adapter.gguf"
    path.write_bytes(b"GGUF" * 1000)
    return path


async def test_a_projector_that_was_not_asked_for_is_named_and_not_counted(bench: Bench) -> None:
    plan = await bench.plans.plan(PlanRequest(REPO))
    (note,) = [note for note in plan.notes if "mmproj" in note]
    assert note.endswith(f"there is {PROJECTOR} (762.9 MiB)")
    planned = plan.variant("Q4_K_M")
    assert 0 < planned.file_bytes - planned.need[RAM].weights < 10**6  # all but the file's header


async def test_a_repository_without_projectors_is_not_noted(bench: Bench) -> None:
    found = repository()
    bench.hub = FakeHub(replace(found, files=tuple(one for one in found.files if one.path != PROJECTOR)))
    assert not any("projector" in note for note in (await bench.plans.plan(PlanRequest(REPO))).notes)


async def test_what_is_asked_for_counts_as_weights_of_every_variant(bench: Bench, adapter: Path) -> None:
    bare = await bench.plans.plan(PlanRequest(REPO))
    plan = await bench.plans.plan(PlanRequest(REPO, mmproj=PROJECTOR.upper(), lora=str(adapter)))
    assert [one.name for one in plan.variants] == [one.name for one in bare.variants]
    for one in plan.variants:
        assert one.need[RAM].weights - bare.variant(one.name).need[RAM].weights == PROJECTOR_BYTES + 4000
        assert one.file_bytes == bare.variant(one.name).file_bytes
    told = " ".join(plan.notes)
    assert f"projector {PROJECTOR} (762.9 MiB) is counted" in told
    assert f"adapter {adapter} (3.9 KiB) is counted" in told
    assert "unless it is asked for" not in told


async def test_an_adapter_that_leaves_no_room_changes_the_choice(bench: Bench) -> None:
    bench.memory_bytes = 46 * GIB
    bench.hub = FakeHub(repository(file("lora-f16.gguf", 12_000)))
    assert (await bench.plans.plan(PlanRequest(REPO, use_case="bulk"))).chosen == "Q4_K_M"
    assert (await bench.plans.plan(PlanRequest(REPO, use_case="bulk", lora="lora-f16.gguf"))).chosen == "Q3_K_M"


async def test_it_lies_on_the_first_card_that_holds_layers(bench: Bench) -> None:
    smaller = replace(LLAMA_70B, blocks=8)
    bench.hub = FakeHub(repository(sizes={"Q4_0": 5_000}), header=smaller.header(q4_0))
    for layers, home in ((None, "CUDA0"), (0, RAM)):
        bare, plan = [
            (await bench.plans.plan(PlanRequest(REPO, machine=CARD, gpu_layers=layers, mmproj=mmproj))).variant("Q4_0")
            for mmproj in (None, PROJECTOR)
        ]
        added = {name: need.weights - bare.need[name].weights for name, need in plan.need.items()}
        assert {name: size for name, size in added.items() if size} == {home: PROJECTOR_BYTES}


async def test_an_installed_model_takes_files_of_its_repository_and_of_the_disk(
    bench: Bench, tmp_path: Path, adapter: Path
) -> None:
    content = SMALL.content(half)
    own = installed(tmp_path, "llama3.1:70b-f16", content, quantization="F16", repo=REPO)
    bench.store = FakeStore(own, installed(tmp_path, "mine", content))
    weights = {
        wanted: (await bench.plans.plan(wanted)).variants[0].need[RAM].weights
        for wanted in (
            PlanRequest(own.name),
            PlanRequest(own.name, mmproj=PROJECTOR),
            PlanRequest(own.name, lora=str(adapter)),
        )
    }
    bare, projected, adapted = weights.values()
    assert (projected - bare, adapted - bare) == (PROJECTOR_BYTES, 4000)


@pytest.mark.parametrize("missing", ["./not-there.gguf", "/not/there.gguf", "a\0b"])
async def test_a_file_that_is_not_there_is_an_error(bench: Bench, missing: str) -> None:
    with pytest.raises(NotFound) as caught:
        await bench.plans.plan(PlanRequest(REPO, lora=missing))
    assert missing in caught.value.message


async def test_a_projector_that_the_repository_lacks_is_an_error_that_names_what_there_is(bench: Bench) -> None:
    with pytest.raises(VariantNotFound) as caught:
        await bench.plans.plan(PlanRequest(REPO, mmproj="mmproj-Q8_0.gguf"))
    assert caught.value.hint == f"it has {PROJECTOR}"
