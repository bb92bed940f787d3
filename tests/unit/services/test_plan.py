from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from tests.unit.fit.headers import LLAMA_70B

from lilliput.catalogue import FamilyName, FamilySize, InstalledFile, InstalledModel
from lilliput.errors import (
    BadFile,
    DoesNotFit,
    HubUnreachable,
    InvalidRequest,
    LilliputError,
    ModelNotFound,
    NotFound,
    VariantNotFound,
)
from lilliput.gguf import Header
from lilliput.hardware import Cpu, Hardware, Memory
from lilliput.hub import OnWait, RemoteFile, Repository
from lilliput.services.plan import Plans
from lilliput.services.plan_records import Plan, PlanDefaults
from lilliput.units import GIB, MIB

REPO = "example/Llama-3.1-70B-Instruct-GGUF"
STEM = "Llama-3.1-70B-Instruct"
SIZES = {"Q8_0": 74_980, "Q6_K": 57_890, "Q4_K_M": 42_520, "Q3_K_M": 34_270, "Q2_K": 26_380}


def file(path: str, megabytes: int) -> RemoteFile:
    return RemoteFile(path, megabytes * 10**6, sha256="0" * 64)


def repository(*extra: RemoteFile) -> Repository:
    files = [file(f"{STEM}-{name}.gguf", size) for name, size in SIZES.items()]
    return Repository(REPO, "a" * 40, (*files, file("mmproj-F16.gguf", 800), file("README.md", 1), *extra))


class FakeHub:
    def __init__(self, found: Repository | None = None, header: Header = LLAMA_70B) -> None:
        self.found = found or repository()
        self.header = header
        self.read: list[str] = []
        self.error: LilliputError | None = None
        self.gate: asyncio.Event | None = None
        self.on_wait: OnWait | None = None

    async def repository(self, repo_id: str) -> Repository:
        if self.error is not None:
            raise self.error
        assert repo_id == REPO
        return self.found

    async def read_header(self, repository: Repository, path: str, *, on_wait: OnWait | None = None) -> Header:
        self.read.append(path)
        self.on_wait = on_wait
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return self.header


class FakeFamilies:
    def resolve(self, name: FamilyName) -> FamilySize:
        if name.family != "llama3.1":
            raise ModelNotFound(f"no family is called {name.family!r}")
        return FamilySize("llama3.1", "70b", REPO, "Llama 3.1")

    def __iter__(self) -> Iterator[FamilySize]:
        yield self.resolve(FamilyName("llama3.1"))


class FakeStore:
    def __init__(self, *models: InstalledModel) -> None:
        self.models = models

    def installed(self) -> tuple[InstalledModel, ...]:
        return self.models


class Bench:
    """Plans over fakes, with 64 GiB of memory unless told otherwise."""

    def __init__(self) -> None:
        self.hub = FakeHub()
        self.store = FakeStore()
        self.memory_bytes = 64 * GIB
        self.defaults = PlanDefaults(slots=1, use_fraction=1.0, reserve_bytes=0)
        self._made: list[Plans] = []

    @property
    def plans(self) -> Plans:
        made = Plans(self.hub, self.store, FakeFamilies(), self.defaults, hardware=self._hardware)
        self._made.append(made)
        return made

    def _hardware(self) -> Hardware:
        cpu = Cpu("Example 9000", "x86_64", 8, 16, 16, ("avx2",))
        return Hardware("Linux", "6", cpu, Memory(self.memory_bytes, self.memory_bytes, self.memory_bytes))

    async def aclose(self) -> None:
        for plans in self._made:
            await plans.aclose()


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.aclose()


def reasons(plan: Plan) -> dict[str, str]:
    return {variant.name: variant.reason for variant in plan.variants}


def gguf_header(tensor_megabytes: int = 1, **numbers: int) -> bytes:
    """A llama header with one F32 tensor and no tensor data."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    keys = {
        "llama.block_count": 2,
        "llama.embedding_length": 64,
        "llama.attention.head_count": 4,
        "llama.vocab_size": 256,
        "llama.context_length": 2048,
        "general.file_type": 15,
    } | numbers
    body = b"GGUF" + struct.pack("<IQQ", 3, 1, len(keys) + 1)
    body += text("general.architecture") + struct.pack("<I", 8) + text("llama")
    for key, value in keys.items():
        body += text(key) + struct.pack("<II", 4, value)
    body += text("token_embd.weight") + struct.pack("<IQQIQ", 2, 64, tensor_megabytes * MIB // 256, 0, 0)
    return body


async def test_a_repository_is_planned_from_exact_sizes_and_one_header(bench: Bench) -> None:
    plan = await bench.plans.plan(REPO)
    assert [variant.name for variant in plan.variants] == ["Q8_0", "Q6_K", "Q4_K_M", "Q3_K_M", "Q2_K"]
    assert (plan.chosen, plan.context_tokens, plan.slots) == ("Q6_K", 8192, 1)
    assert bench.hub.read == [f"{STEM}-Q2_K.gguf"]
    chosen = next(variant for variant in plan.variants if variant.name == "Q6_K")
    assert chosen.fits
    assert chosen.files == (f"{STEM}-Q6_K.gguf",)
    assert chosen.need["ram"].weights == chosen.file_bytes == 57_890 * 10**6
    assert chosen.need["ram"].kv == 2560 * MIB
    need = chosen.need["ram"]
    assert need.weights + need.kv + need.compute + need.overhead == chosen.total_bytes <= plan.budget.budget_bytes
    assert "over the budget of 64.0 GiB" in reasons(plan)["Q8_0"]


async def test_a_plan_is_plain_json(bench: Bench) -> None:
    value = json.loads(json.dumps((await bench.plans.plan(REPO)).to_json()))
    assert set(value) == {"model", "machine", "budget", "context_tokens", "slots", "variants", "chosen"}
    assert value["budget"] == {
        "total_bytes": 64 * GIB,
        "available_bytes": 64 * GIB,
        "reserve_bytes": 0,
        "use_fraction": 1.0,
        "limit_bytes": None,
        "budget_bytes": 64 * GIB,
        "because": "64.0 GiB available less 0 B in reserve",
    }
    assert value["machine"]["cpu"]["model"] == "Example 9000"
    assert set(value["variants"][0]) == {"name", "files", "file_bytes", "need", "total_bytes", "fits", "reason"}
    assert set(value["variants"][0]["need"]["ram"]) == {"weights", "kv", "compute", "overhead"}


async def test_a_family_is_planned_through_its_repository(bench: Bench) -> None:
    plan = await bench.plans.plan("llama3.1:70b")
    assert (plan.model, plan.chosen) == ("llama3.1:70b", "Q6_K")


async def test_a_quantization_in_the_name_is_kept(bench: Bench) -> None:
    plan = await bench.plans.plan("llama3.1:70b-q4-k-m")
    assert plan.chosen == "Q4_K_M"
    assert reasons(plan)["Q6_K"] == "fits, but Q4_K_M was asked for"
    assert (await bench.plans.plan(f"{REPO}:Q8_0")).chosen is None


async def test_context_and_slots_are_used_as_asked(bench: Bench) -> None:
    plan = await bench.plans.plan(REPO, context_tokens=32768, slots=4)
    assert (plan.context_tokens, plan.slots) == (32768, 4)
    assert plan.variants[0].need["ram"].kv == 10240 * MIB
    assert plan.chosen == "Q4_K_M"


@pytest.mark.parametrize(("context", "slots", "param"), [(0, None, "context"), (-1, 1, "context"), (1, 0, "slots")])
async def test_impossible_numbers_are_refused(bench: Bench, context: int, slots: int | None, param: str) -> None:
    with pytest.raises(InvalidRequest, match="at least 1") as caught:
        await bench.plans.plan(REPO, context_tokens=context, slots=slots)
    assert caught.value.param == param


async def test_the_usual_context_is_no_longer_than_the_model_s(bench: Bench) -> None:
    short = Header(3, {**LLAMA_70B.metadata, "llama.context_length": 4096}, (), 32, 0)
    bench.hub = FakeHub(header=short)
    assert (await bench.plans.plan(REPO)).context_tokens == 4096
    assert (await bench.plans.plan(REPO, context_tokens=8192)).context_tokens == 8192


async def test_unusable_variants_are_listed_with_the_reason(bench: Bench) -> None:
    bench.hub = FakeHub(
        repository(
            file(f"{STEM}-Q5_K_M-00001-of-00002.gguf", 25_000),
            file(f"{STEM}-Q4_0_4_4.gguf", 40_000),
            file("Llama-3.2-1B-Instruct-Q8_0.gguf", 1_300),
        )
    )
    said = reasons(await bench.plans.plan(REPO))
    assert said["Q5_K_M"] == "cannot be loaded: parts of its split set are missing"
    assert said["Q4_0_4_4"].startswith("cannot be loaded: llama.cpp has removed this type")
    assert said["Llama-3.2-1B-Instruct-Q8_0"].startswith("not judged: Llama-3.2-1B-Instruct-Q8_0.gguf is another model")
    assert bench.hub.read == [f"{STEM}-Q2_K.gguf"]


async def test_a_file_in_the_name_is_planned_by_its_own_header(bench: Bench) -> None:
    bench.hub = FakeHub(repository(file("Llama-3.2-1B-Instruct-Q8_0.gguf", 1_300)))
    plan = await bench.plans.plan(f"{REPO}/Llama-3.2-1B-Instruct-Q8_0.gguf")
    assert plan.chosen == "Llama-3.2-1B-Instruct-Q8_0"
    assert bench.hub.read == ["Llama-3.2-1B-Instruct-Q8_0.gguf"]


async def test_one_header_a_revision_is_read_however_many_ask(bench: Bench) -> None:
    plans = bench.plans
    bench.hub.gate = asyncio.Event()
    asking = [asyncio.create_task(plans.plan(REPO)) for _ in range(5)]
    while not bench.hub.read:
        await asyncio.sleep(0)
    asking[0].cancel()
    bench.hub.gate.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert all(isinstance(answer, Plan) for answer in answers[1:])
    await plans.plan(REPO)
    assert len(bench.hub.read) == 1
    bench.hub.found = Repository(REPO, "b" * 40, bench.hub.found.files)
    await plans.plan(REPO)
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
        await plans.plan(REPO)
    bench.hub.header = LLAMA_70B
    assert (await plans.plan(REPO)).chosen == "Q6_K"


async def test_the_choice_for_a_pull_names_variant_and_reason(bench: Bench) -> None:
    chosen = await bench.plans.choose(bench.hub.found)
    assert chosen.variant.quantization == "Q6_K"
    assert chosen.reason.startswith("the best quality that fits: needs 53.9 GiB + 2.5 GiB KV at 8192")
    assert chosen.plan.chosen == "Q6_K"


async def test_less_memory_chooses_a_smaller_variant(bench: Bench) -> None:
    bench.memory_bytes = 40 * GIB
    assert (await bench.plans.choose(bench.hub.found)).variant.quantization == "Q3_K_M"


async def test_a_limit_bounds_the_choice(bench: Bench) -> None:
    bench.defaults = PlanDefaults(slots=1, limit_bytes=30 * GIB)
    assert (await bench.plans.choose(bench.hub.found)).variant.quantization == "Q2_K"


async def test_nothing_that_fits_is_refused_with_the_smallest_need_and_the_budget(bench: Bench) -> None:
    bench.memory_bytes = 27 * GIB
    with pytest.raises(DoesNotFit) as caught:
        await bench.plans.choose(bench.hub.found)
    error = caught.value
    assert error.message == (
        f"Q2_K of {REPO} needs 24.6 GiB + 2.5 GiB KV at 8192 + 395.9 MiB for computing, 27.5 GiB in all,"
        " and nothing there needs less; the budget is 27.0 GiB (27.0 GiB available less 0 B in reserve)"
    )
    assert error.hint == "Q2_K would fit at a context of 4096, or free memory, or take a smaller model, or force it"
    assert error.budget_bytes == 27 * GIB < error.need_bytes


async def test_a_pinned_variant_that_does_not_fit_is_refused_and_another_named(bench: Bench) -> None:
    with pytest.raises(DoesNotFit, match=r"^Q8_0 of") as caught:
        await bench.plans.choose(bench.hub.found, "Q8_0")
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("Q6_K would fit, or")


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
    path.write_bytes(gguf_header(tensor_megabytes=64))
    plan = await bench.plans.plan(str(path))
    assert (plan.chosen, plan.context_tokens) == ("Q4_K_M", 2048)
    assert 64 * MIB <= plan.variants[0].file_bytes < 65 * MIB
    assert plan.variants[0].files == (str(path),)


async def test_a_missing_or_foreign_file_is_named(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"nothing\.gguf"):
        await bench.plans.plan(str(tmp_path / "nothing.gguf"))
    (tmp_path / "text.gguf").write_text("hello, this is text")
    with pytest.raises(BadFile, match=r"text\.gguf"):
        await bench.plans.plan(str(tmp_path / "text.gguf"))


def installed(tmp_path: Path, name: str, repo: str | None = None) -> InstalledModel:
    path = tmp_path / f"{name.replace(':', '-').replace('/', '-')}.gguf"
    path.write_bytes(gguf_header())
    return InstalledModel(name, "embedded", (InstalledFile(path, path.stat().st_size),), repo, quantization="Q4_1")


async def test_an_installed_model_is_planned_without_the_hub(bench: Bench, tmp_path: Path) -> None:
    bench.store = FakeStore(installed(tmp_path, "smollm2:135m"))
    bench.hub.error = HubUnreachable("no network")
    plan = await bench.plans.plan("SmolLM2:135M")
    assert (plan.model, plan.chosen) == ("smollm2:135m", "Q4_1")


async def test_without_the_hub_an_installed_variant_of_the_repository_is_planned(bench: Bench, tmp_path: Path) -> None:
    bench.hub.error = HubUnreachable("no network")
    with pytest.raises(HubUnreachable):
        await bench.plans.plan(REPO)
    bench.store = FakeStore(installed(tmp_path, f"{REPO}:Q4_1", REPO))
    assert (await bench.plans.plan("llama3.1")).chosen == "Q4_1"
    with pytest.raises(HubUnreachable):
        await bench.plans.plan(f"{REPO}:Q8_0")


async def test_without_the_hub_a_family_name_is_planned_as_what_is_installed_of_it(
    bench: Bench, tmp_path: Path
) -> None:
    bench.hub.error = HubUnreachable("no network")
    bench.store = FakeStore(installed(tmp_path, "llama3.1:70b"))
    assert (await bench.plans.plan("llama3.1")).model == "llama3.1:70b"


async def test_an_unknown_family_is_told(bench: Bench) -> None:
    with pytest.raises(ModelNotFound, match="no family is called 'llamma'"):
        await bench.plans.plan("llamma")
