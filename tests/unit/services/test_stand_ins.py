"""Who serves in place of a model that cannot be loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from lilliput.catalogue import Families, InstalledFile, InstalledModel
from lilliput.errors import Busy, DoesNotFit, HubUnreachable
from lilliput.fit import QualityTable, UseCases
from lilliput.hardware import read_tables
from lilliput.pool import Lease, Steps
from lilliput.services import Plan, PlanRequest
from lilliput.services.stand_ins import FIRST_PAUSE_S, StandIns
from lilliput.shipped import shipped
from lilliput.units import MIB

NO_ROOM = "it could not be loaded, memory is short. Tried: as it was planned"


@dataclass
class Bench:
    """Installed variants of one model, ``broken`` ones among them; ``offers`` are what a plan says could be made."""

    folder: Path
    models: list[InstalledModel] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    leased: list[str] = field(default_factory=list)
    offers: Sequence[SimpleNamespace] = ()
    planned: list[PlanRequest] = field(default_factory=list)
    plan_error: Exception | None = None
    now_s: float = 0.0

    def __post_init__(self) -> None:
        self.steps = Steps()
        families = Families([shipped("families.toml")])
        cases = UseCases.from_mapping(read_tables(shipped("use_cases.toml")))
        quality = QualityTable.from_mapping(read_tables(shipped("quality.toml")))
        self.stand_ins = StandIns(self, families, cases, quality, self, self.steps, clock=lambda: self.now_s)

    def add(self, name: str, quantization: str, size: int, *, parameters: int = 8_000_000_000) -> InstalledModel:
        path = self.folder / f"{len(self.models)}.gguf"
        path.touch()
        files = (InstalledFile(path, size * MIB),)
        model = InstalledModel(
            name, "hub", files, quantization=quantization, architecture="llama", parameter_count=parameters
        )
        self.models.append(model)
        return model

    def installed(self) -> tuple[InstalledModel, ...]:
        return tuple(self.models)

    def get_fact(self, key: str) -> str | None:
        return None

    async def plan(self, request: PlanRequest) -> Plan:
        self.planned.append(request)
        if self.plan_error is not None:
            raise self.plan_error
        return cast("Plan", SimpleNamespace(variants=self.offers, chosen="Q5_K_S", use_case="general"))

    async def load(self, model: InstalledModel) -> Lease:
        self.leased.append(model.name)
        if model.name in self.broken:
            raise DoesNotFit(f"{model.name}: {NO_ROOM}", need_bytes=9, budget_bytes=7, hint="free memory")
        return cast("Lease", SimpleNamespace(model=model, degraded=("a shorter context",)))

    async def ask(self, model: InstalledModel, *, replaceable: bool = True) -> Lease:
        self.leased.clear()
        return await self.stand_ins.lease(model, self.load, replaceable=replaceable)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.add("llama3.1:8b-q4_k_m", "Q4_K_M", 4700)
    bench.add("llama3.1:8b-q8_0", "Q8_0", 8100)
    bench.add("llama3.1:8b-q2_k", "Q2_K", 3000)
    bench.add("llama3.1:8b-q5_k_m", "Q5_K_M", 5500)
    bench.add("llama3.1:70b-q4_k_m", "Q4_K_M", 4000, parameters=70_000_000_000)
    bench.add("org/other:Q4_K_M", "Q4_K_M", 4600)
    return bench


async def test_a_model_that_loads_is_not_replaced(bench: Bench) -> None:
    lease = await bench.ask(bench.models[1])
    assert (lease.model.name, lease.degraded) == ("llama3.1:8b-q8_0", ("a shorter context",))
    assert (bench.steps.latest, bench.planned) == ((), [])


async def test_the_next_smaller_variant_above_the_floor_serves_and_says_so(bench: Bench) -> None:
    bench.broken = {"llama3.1:8b-q8_0", "llama3.1:8b-q5_k_m"}
    lease = await bench.ask(bench.models[1])
    assert bench.leased == ["llama3.1:8b-q8_0", "llama3.1:8b-q5_k_m", "llama3.1:8b-q4_k_m"]
    told = f"llama3.1:8b-q4_k_m in place of llama3.1:8b-q8_0 (because llama3.1:8b-q8_0: {NO_ROOM})"
    assert lease.degraded == ("a shorter context", told)
    assert bench.stand_ins.given_up("llama3.1:8b-q4_k_m") == (told,)
    assert bench.stand_ins.given_up("llama3.1:8b-q5_k_m") == ()
    (step,) = bench.steps.latest
    assert (step.kind, step.engine, step.before_bytes) == ("stand-in", "llama3.1:8b-q8_0", 8100 * MIB)
    assert step.after_bytes == 4700 * MIB


async def test_what_could_not_be_loaded_is_tried_again_after_growing_pauses(bench: Bench) -> None:
    bench.broken = {"llama3.1:8b-q8_0"}
    pause_s = FIRST_PAUSE_S
    for _ in range(3):
        await bench.ask(bench.models[1])
        assert bench.leased == ["llama3.1:8b-q8_0", "llama3.1:8b-q5_k_m"]
        bench.now_s += pause_s - 1
        lease = await bench.ask(bench.models[1])
        assert bench.leased == ["llama3.1:8b-q5_k_m"]
        assert "in place of llama3.1:8b-q8_0" in lease.degraded[-1]
        bench.now_s += 1
        pause_s *= 2
    bench.broken = set()
    assert (await bench.ask(bench.models[1])).model.name == "llama3.1:8b-q8_0"
    assert bench.stand_ins.given_up("llama3.1:8b-q5_k_m") == ()


async def test_who_has_named_the_variant_gets_it_or_a_refusal_that_names_the_smaller_one(bench: Bench) -> None:
    bench.broken = {"llama3.1:8b-q8_0"}
    with pytest.raises(DoesNotFit, match="memory is short") as refused:
        await bench.ask(bench.models[1], replaceable=False)
    assert bench.leased == ["llama3.1:8b-q8_0"]
    assert refused.value.hint == "ask for llama3.1:8b-q5_k_m, which is smaller and installed, or free memory"


async def test_a_refusal_lists_all_variants_and_names_a_pull_that_would_help(bench: Bench) -> None:
    bench.broken = {one.name for one in bench.models}
    offer = {"exists": False, "fits": True, "total_bytes": 6}
    bench.offers = [
        SimpleNamespace(name="Q6_K", file_bytes=6500 * MIB, **offer | {"fits": False}),
        SimpleNamespace(name="Q5_K_M", file_bytes=5500 * MIB, **offer | {"exists": True}),
        SimpleNamespace(name="Q5_K_L", file_bytes=5600 * MIB, **offer),
        SimpleNamespace(name="Q5_K_S", file_bytes=5400 * MIB, **offer),
        SimpleNamespace(name="Q2_K", file_bytes=3000 * MIB, **offer),
    ]
    with pytest.raises(DoesNotFit) as refused:
        await bench.ask(bench.models[1])
    tried = ("q8_0", "q5_k_m", "q4_k_m")  # what is smaller is below the floor
    assert refused.value.message == "; ".join(f"llama3.1:8b-{one}: {NO_ROOM}" for one in tried)
    assert (refused.value.need_bytes, refused.value.budget_bytes) == (9, 7)
    assert refused.value.hint == (
        "pull a smaller variant: lilliput pull llama3.1:8b --variant Q5_K_S (5.3 GiB), or free memory"
    )
    (request,) = bench.planned
    assert (request.model, request.every_type, request.budget_bytes) == ("llama3.1:8b-q8_0", True, 7)


@pytest.mark.parametrize("error", [HubUnreachable("no"), TimeoutError(), None])
async def test_where_no_pull_is_known_to_help_none_is_named(bench: Bench, error: Exception | None) -> None:
    bench.broken, bench.plan_error = {one.name for one in bench.models}, error
    with pytest.raises(DoesNotFit) as refused:
        await bench.ask(bench.models[2])
    assert refused.value.hint == "free memory"


async def test_a_file_has_no_other_variants(bench: Bench) -> None:
    model = bench.add(str(bench.folder / "5.gguf"), "Q8_0", 8000)
    bench.broken = {model.name}
    with pytest.raises(DoesNotFit):
        await bench.ask(model)
    assert (bench.leased, bench.planned) == ([model.name], [])


async def test_other_errors_are_nobody_elses_turn(bench: Bench) -> None:
    async def busy(_model: InstalledModel) -> Lease:
        raise Busy("wait", retry_after_s=1.0)

    with pytest.raises(Busy):
        await bench.stand_ins.lease(bench.models[1], busy, replaceable=True)
