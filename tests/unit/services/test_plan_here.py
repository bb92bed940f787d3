"""Plans of what lies here: local files and installed models, with and without the Hub."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.support.model_headers import SMALL, Transformer, half, q4_0
from tests.unit.services.plan_bench import (
    REPO,
    Bench,
    FakeStore,
    installed,
)

from lilliput.errors import (
    BadFile,
    HubUnreachable,
    NotFound,
)
from lilliput.pool import Terms
from lilliput.services import PlanRequest
from lilliput.services.agreements import agree


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.aclose()


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
    plan = await bench.plans.plan(PlanRequest("llama3.1"))
    assert plan.chosen == "Q4_1"
    assert plan.notes[-1] == "only what is installed was planned: no network"
    assert bench.hub.brief == [False, True], "nobody waits for a Hub that is not needed"
    with pytest.raises(HubUnreachable):
        await bench.plans.plan(PlanRequest(f"{REPO}:Q8_0"))


async def test_without_the_hub_all_installed_variants_of_an_open_name_are_planned(bench: Bench, tmp_path: Path) -> None:
    bench.hub.error = HubUnreachable("no network")
    fields = {"repo": REPO, "architecture": "llama"}
    models = (("Q4_0", q4_0), ("F16", half))
    here = [
        installed(tmp_path, f"{REPO}:{one}", SMALL.content(kind), quantization=one, **fields) for one, kind in models
    ]
    bench.store = FakeStore(*here)
    plan = await bench.plans.plan(PlanRequest("llama3.1"))
    assert {variant.name for variant in plan.variants} == {f"{REPO}:Q4_0", f"{REPO}:F16"}
    assert plan.chosen == f"{REPO}:F16"


async def test_an_installed_model_is_planned_as_it_is_loaded_unless_more_is_asked(bench: Bench, tmp_path: Path) -> None:
    bench.store = FakeStore(installed(tmp_path, "m", SMALL.content(half), quantization="F16"))
    agree(bench.store, "m", Terms(context_tokens=1024, kv_type="q8_0", slots=3))
    plan = await bench.plans.plan(PlanRequest("m"))
    setting = plan.variant("F16").setting
    assert setting is not None
    assert (setting.context_tokens, setting.kv_type, setting.slots) == (1024, "q8_0", 3)
    other = await bench.plans.plan(PlanRequest("m", slots=2))
    assert (other.slots, other.context_tokens) == (2, min(8192, SMALL.context))
