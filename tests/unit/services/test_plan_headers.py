"""Which headers of a repository a plan reads, how often, and who hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial

import pytest
import pytest_asyncio
from tests.support.model_headers import LLAMA_70B, SMALL, half, q2_k
from tests.unit.services.plan_bench import (
    REPO,
    STEM,
    Bench,
    FakeHub,
    file,
    reasons,
    repository,
)

from lilliput.errors import (
    BadFile,
)
from lilliput.fit import RAM
from lilliput.gguf import Header
from lilliput.hub import Repository
from lilliput.services import Plan, PlanRequest
from lilliput.units import MIB


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.aclose()


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
    assert plan.variant("Q4_K_M").need[RAM].weights == 2 * 21_260 * 10**6 - whole.data_offset_bytes
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
