"""Dry runs that are asked once: kept by model, build and devices, shared by those who ask together."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.support.model_headers import SMALL, Transformer, half, q2_k, q4_0
from tests.unit.services.plan_bench import KeptFacts

from lilliput.errors import StorageError
from lilliput.gguf import GgmlType, Header
from lilliput.llama import ContextSettings, DryResult, ModelSettings, Point, run_dry
from lilliput.services import oracle as oracle_module
from lilliput.services.oracle import Answers, Oracle, stand_in_digest
from lilliput.units import MIB

HEADER = SMALL.header(q4_0)


def point(context_tokens: int, kv_type: str = "f16") -> Point:
    context = ContextSettings(context_tokens, 2, batch_tokens=512, ubatch_tokens=512, kv_type=kv_type)
    return Point(ModelSettings("", gpu_layers=0), context)


class Children:
    """The real dry runs, counted; ``results`` are given instead when there are some."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[Point], list[str]]] = []
        self.results: list[DryResult] | None = None
        self.running = self.most_running = 0
        self.go = asyncio.Event()

    async def run(
        self, points: Sequence[Point], quantizations: Sequence[str] = ()
    ) -> tuple[list[DryResult], list[DryResult]]:
        self.asked.append((list(points), list(quantizations)))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            if self.results is not None:
                await self.go.wait()
                return list(self.results), []
            return await run_dry(points, quantizations)
        finally:
            self.running -= 1


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Children:
    made = Children()
    monkeypatch.setattr(oracle_module, "run_dry", made.run)
    return made


def oracle(facts: KeptFacts | None = None, build: str = "b1", devices: Sequence[str] = ()) -> Oracle:
    return Oracle(facts or KeptFacts(), build, lambda: devices)


async def ask(
    one: Oracle, points: Sequence[Point], quantizations: Sequence[str] = (), header: Header = HEADER
) -> Answers:
    return await one.ask(stand_in_digest(header), header, points, quantizations)


async def test_llama_cpp_tells_caches_scratch_and_mixtures(children: Children) -> None:
    answers = await ask(oracle(), [point(1024), point(1024, "q8_0"), point(2048)], ["Q4_K_M", "Q8_0"])
    assert len(children.asked) == 1
    plain, small, long = (answers.buffers[one] for one in (point(1024), point(1024, "q8_0"), point(2048)))
    assert plain.cache_bytes == 4 * 1024 * 2 * 2 * (2 * 64)  # layers, cells, keys and values, halves, two heads of 64
    assert small.cache_bytes == pytest.approx(plain.cache_bytes * 34 / 64, abs=0.01 * MIB)  # as exact as it is told
    assert long.cache_bytes == 2 * plain.cache_bytes
    assert sum(plain.compute.values()) > 0
    assert answers.refusals == {}
    eights = {tensor.name: tensor.type for tensor in answers.mixes["Q8_0"]}
    assert eights["blk.0.ffn_up.weight"] is GgmlType.Q8_0
    assert eights["output_norm.weight"] is GgmlType.F32
    names = [tensor.name for tensor in answers.mixes["Q4_K_M"]]
    assert sorted(names) == sorted(tensor.name for tensor in HEADER.tensors)
    assert names[:3] == ["output.weight", "output_norm.weight", "token_embd.weight"]  # as llama.cpp writes them


async def test_what_was_answered_is_not_asked_again_not_even_by_another_run(children: Children) -> None:
    facts = KeptFacts()
    first = oracle(facts)
    answered = await ask(first, [point(512)], ["Q8_0"])
    assert await ask(first, [point(512)], ["Q8_0"]) == answered
    assert await ask(oracle(facts), [point(512)], ["Q8_0"]) == answered
    assert len(children.asked) == 1
    await ask(first, [point(512), point(768)], ["Q8_0", "Q4_0"])
    points, kinds = children.asked[1]
    assert ([one.context.context_tokens for one in points], kinds) == ([768], ["Q4_0"])


async def test_another_build_or_other_devices_are_asked_anew(children: Children) -> None:
    facts = KeptFacts()
    for build, devices in (("b1", ()), ("b2", ()), ("b1", ("Vulkan0",)), ("b1", ())):
        await ask(oracle(facts, build, devices), [point(512)])
    assert len(children.asked) == 3


async def test_all_quantizations_of_a_model_share_their_answers_and_another_model_does_not(children: Children) -> None:
    one = oracle()
    first = await ask(one, [point(512)])
    for kinds in (half, q2_k):
        assert (await ask(one, [point(512)], header=SMALL.header(kinds))).buffers == first.buffers
    assert len(children.asked) == 1
    wider = await ask(one, [point(512)], header=Transformer(kv_heads=4).header(q4_0))
    assert wider.buffers[point(512)].cache_bytes == 2 * first.buffers[point(512)].cache_bytes
    assert len(children.asked) == 2


async def test_those_who_ask_together_share_one_child_a_model(children: Children) -> None:
    one = oracle()
    asked = [[point(512)], [point(512), point(768)], [point(768)], [point(512)]]
    answers = await asyncio.gather(*(ask(one, points) for points in asked))
    assert [set(each.buffers) for each in answers] == [set(points) for points in asked]
    told = [each.context.context_tokens for points, _ in children.asked for each in points]
    assert sorted(told) == [512, 768]
    assert children.most_running == 1


async def test_no_more_than_two_children_run_at_once(children: Children) -> None:
    children.results = [DryResult(number=0, error="not now")]
    one = oracle()
    models = [Transformer(vocabulary=1024 + 32 * number).header(q4_0) for number in range(6)]
    asking = [asyncio.create_task(ask(one, [point(512)], header=header)) for header in models]
    async with asyncio.timeout(10):
        while children.running < 2:
            await asyncio.sleep(0.001)
    children.go.set()
    await asyncio.gather(*asking)
    assert (len(children.asked), children.most_running) == (6, 2)


async def test_what_llama_cpp_refuses_is_missing_with_its_reason_and_remembered(children: Children) -> None:
    one = oracle()
    strange = Transformer(architecture="llamanext").header(q4_0)
    for _ in range(2):
        answers = await ask(one, [point(512)], header=strange)
        assert answers.buffers == {}
        assert "unknown model architecture" in answers.refusals[point(512)]
    assert len(children.asked) == 1


async def test_an_unknown_quantization_is_refused_alone(children: Children) -> None:
    answers = await ask(oracle(), [point(512)], ["Q8_0", "Q17"])
    assert set(answers.mixes) == {"Q8_0"}
    assert set(answers.refusals) == {"Q17"}
    assert point(512) in answers.buffers


async def test_what_ran_out_of_time_is_asked_again(children: Children) -> None:
    facts = KeptFacts()
    one = oracle(facts)
    children.go.set()
    children.results = [DryResult(number=0, error="llama.cpp did not answer within 20 s", timed_out=True)]
    assert "did not answer" in (await ask(one, [point(512)])).refusals[point(512)]
    children.results = None
    for asked in (one, oracle(facts)):
        assert (await ask(asked, [point(512)])).refusals == {}
    assert len(children.asked) == 2


async def test_who_goes_away_leaves_the_others_their_answer(children: Children) -> None:
    one = oracle()
    leaving, staying = (asyncio.create_task(ask(one, [point(512)])) for _ in range(2))
    while not children.asked:
        await asyncio.sleep(0)
    leaving.cancel()
    assert (await staying).buffers
    with pytest.raises(asyncio.CancelledError):
        await leaving


async def test_where_nothing_can_be_written_it_is_said_and_the_next_question_is_answered(
    children: Children, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one = oracle()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(StorageError, match="plans need some 100 kB for temporary files"):
        await ask(one, [point(512)])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert (await ask(one, [point(512)])).buffers
    assert list(tmp_path.iterdir()) == []
