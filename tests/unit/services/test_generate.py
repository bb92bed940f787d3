"""Generation over a real pool, and over an engine that dies when it is told to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
from tests.support.safe_rung import rungs_here
from tests.unit.pool.conftest import PLENTY, Facts, Planner, installed

from lilliput.catalogue import InstalledModel
from lilliput.engine import Accepted, Done, EngineLoad, EventStream, Failed, Ready, Submit, Text
from lilliput.engine.stream import MOST_WAITING
from lilliput.errors import (
    Cancelled,
    ContextExceeded,
    DeadlineExceeded,
    EngineDied,
    EngineError,
    InvalidRequest,
    ModelNotFound,
    TemplateFailed,
)
from lilliput.fit import RAM, Budget
from lilliput.llama import Buffers
from lilliput.pool import Lease, LoadPlan, Pool, PoolSettings
from lilliput.services.answer import Run
from lilliput.services.generate import Generator
from lilliput.services.metrics import Ended
from lilliput.services.requests import (
    ChatRequest,
    ChoiceFinished,
    CompletionRequest,
    Generation,
    GenerationEvent,
    Limits,
    Sampling,
    TextDelta,
    Usage,
)

HI = [{"role": "user", "content": "Say only: hi"}]
BUFFERS = Buffers({}, {}, {}, {}, ())
READY = Ready(256, 2048, 100, False, "", "", "{{ messages[0].content }}", "", 0.0, BUFFERS)


class Names:
    async def resolve(self, name: str) -> InstalledModel:
        if name != "one":
            raise ModelNotFound(f"no {name}")
        return installed()


class ScriptedEngine:
    """Answers each submission with what ``script`` gives for it; None: it dies before it accepts."""

    def __init__(self, script: Callable[[Submit], list[Any] | None]) -> None:
        self.script = script
        self.load = EngineLoad()
        self.submitted: list[Submit] = []
        self.cancelled: list[int] = []

    def submit(self, make: Callable[[int], Submit], stream: EventStream) -> int:
        message = make(len(self.submitted) + 1)
        self.submitted.append(message)
        events = self.script(message)
        for event in events or ():
            stream.push(event)
        if events is None:
            stream.fail(EngineDied("it died"))
        return message.id

    def cancel(self, request_id: int) -> None:
        self.cancelled.append(request_id)


class ScriptedLease:
    def __init__(self, engine: ScriptedEngine, ready: Ready) -> None:
        self.engine, self.ready = engine, ready
        self.model, self.waited_s, self.released = installed(), 0.5, 0
        self.plan = LoadPlan(2048, 1, 1, {}, frozenset(), gpu_layers=3, kv_type="q8_0")
        self.alone = True
        self.degraded = ("a KV cache in q8_0 instead of f16",)

    def release(self) -> None:
        self.released += 1


class ScriptedPool:
    def __init__(self, script: Callable[[Submit], list[Any] | None], ready: Ready = READY) -> None:
        self.engine = ScriptedEngine(script)
        self.ready = ready
        self.leases: list[ScriptedLease] = []
        self.runs: list[Run] = []
        self.ended: list[Ended] = []
        self.kept_s: list[float | None] = []

    async def lease(
        self, model: InstalledModel, *, sequences: int = 1, keep_alive_s: float | None = None, caller: str = ""
    ) -> Lease:
        self.kept_s.append(keep_alive_s)
        self.leases.append(ScriptedLease(self.engine, self.ready))
        return cast("Lease", self.leases[-1])

    @property
    def generator(self) -> Generator:
        return Generator(Names(), cast("Pool", self), self.runs.append, on_end=self.ended.append)


def answered(message: Submit) -> list[Any]:
    done = Done(message.id, "stop", 7, 3, 2, 0.1 * message.id, 0.2)
    return [Accepted(message.id, 7), Text(message.id, f"answer {message.id}"), done]


async def all_of(answer: Generation) -> list[GenerationEvent]:
    return [event async for event in answer]


def completion(*prompts: str, n: int = 1, **sampling: Any) -> CompletionRequest:
    return CompletionRequest("one", prompts, n, Sampling(**sampling))


async def test_choices_are_numbered_over_prompts_and_a_prompt_is_counted_once() -> None:
    pool = ScriptedPool(answered)
    events = await all_of(await pool.generator.complete(completion("a", "b", n=2)))
    assert [one.index for one in events if isinstance(one, TextDelta)] == [0, 1, 2, 3]
    assert [one.index for one in events if isinstance(one, ChoiceFinished)] == [0, 1, 2, 3]
    usage = events[-1]
    assert isinstance(usage, Usage)
    assert (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) == (14, 6, 8)
    assert usage.load_s == 0.5
    assert usage.prefill_s == pytest.approx(0.4)
    assert [message.prompt for message in pool.engine.submitted] == ["a", "a", "b", "b"]


async def test_choices_draw_from_seeds_of_their_own_that_follow_from_the_given_one() -> None:
    pool = ScriptedPool(answered)
    await all_of(await pool.generator.complete(completion("a", n=3, seed=2**32 - 1)))
    assert [message.sampler.seed for message in pool.engine.submitted] == [2**32 - 1, 0, 1]
    await all_of(await pool.generator.complete(completion("a")))
    await all_of(await pool.generator.complete(completion("a")))
    assert pool.engine.submitted[-1].sampler.seed != pool.engine.submitted[-2].sampler.seed


async def test_what_a_request_sets_reaches_the_sampler_and_the_rest_keeps_its_default() -> None:
    pool = ScriptedPool(answered)
    await all_of(await pool.generator.complete(completion("a", temperature=0.0, top_k=7, logit_bias={5: -1.0})))
    (message,) = pool.engine.submitted
    assert (message.sampler.temperature, message.sampler.top_k, message.sampler.top_p) == (0.0, 7, 0.95)
    assert message.sampler.logit_bias == ((5, -1.0),)


async def test_an_engine_that_dies_before_it_accepts_is_tried_once_more() -> None:
    pool = ScriptedPool(lambda message: None if message.id == 1 else answered(message))
    events = await all_of(await pool.generator.complete(completion("a")))
    assert isinstance(events[-1], Usage)
    assert [lease.released > 0 for lease in pool.leases] == [True, True]
    dying = ScriptedPool(lambda _: None)
    with pytest.raises(EngineDied):
        await dying.generator.complete(completion("a"))
    assert len(dying.leases) == 2


async def test_an_engine_that_dies_later_is_told_in_the_answer_and_not_tried_again() -> None:
    pool = ScriptedPool(
        lambda message: [Accepted(message.id, 7), Text(message.id, "so"), Failed(message.id, "x", "no")]
    )
    answer = await pool.generator.complete(completion("a"))
    events = answer.__aiter__()
    assert await anext(events) == TextDelta(0, "so", ())
    with pytest.raises(EngineError, match="no"):
        await anext(events)
    assert len(pool.leases) == 1
    assert pool.leases[0].released


async def test_a_prompt_that_is_refused_frees_the_others_and_the_engine() -> None:
    def script(message: Submit) -> list[Any]:
        if message.id == 2:
            return [Failed(2, "context-exceeded", "", None, 900, 256)]
        return [Accepted(message.id, 7)]

    pool = ScriptedPool(script)
    with pytest.raises(ContextExceeded, match=r"900.*256"):
        await pool.generator.complete(completion("a", "b"))
    assert pool.engine.cancelled == [1, 2]
    assert pool.leases[0].released


async def test_what_came_before_all_prompts_were_read_is_not_lost() -> None:
    events = await all_of(await ScriptedPool(answered).generator.complete(completion("a", "b")))
    assert [one.text for one in events if isinstance(one, TextDelta)] == ["answer 1", "answer 2"]


async def test_a_model_without_a_template_cannot_chat() -> None:
    pool = ScriptedPool(answered, Ready(256, 2048, 100, False, "", "", None, "", 0.0, BUFFERS))
    with pytest.raises(TemplateFailed):
        await pool.generator.chat(ChatRequest("one", HI))
    assert pool.leases[0].released


async def test_how_long_the_engine_stays_and_what_it_gave_up_go_through() -> None:
    pool = ScriptedPool(answered)
    answer = await pool.generator.chat(ChatRequest("one", HI, limits=Limits(keep_alive_s=7.0)))
    assert (pool.kept_s, answer.degraded) == ([7.0], ("a KV cache in q8_0 instead of f16",))
    await answer.aclose()


async def test_an_unknown_model_is_refused_before_an_engine_is_asked() -> None:
    pool = ScriptedPool(answered)
    with pytest.raises(ModelNotFound):
        await pool.generator.chat(ChatRequest("two", HI))
    assert pool.leases == []


async def test_an_answer_that_had_the_engine_to_itself_tells_how_fast_it_went() -> None:
    pool = ScriptedPool(answered)
    await all_of(await pool.generator.complete(completion("a")))
    (run,) = pool.runs
    assert (run.model.name, run.prompt_tokens, run.generated_tokens) == ("one", 4, 2)
    assert run.prompt_s == pytest.approx(0.1)
    assert run.generation_s == 0.2
    assert (run.cached_tokens, run.gpu_layers, run.kv_type) == (3, 3, "q8_0")


async def test_answers_beside_others_or_of_several_choices_tell_nothing_of_speed() -> None:
    pool = ScriptedPool(answered)
    await all_of(await pool.generator.complete(completion("a", n=2)))
    pool.engine.load = EngineLoad(active=1)
    await all_of(await pool.generator.complete(completion("a")))
    pool.engine.load = EngineLoad()
    answer = await pool.generator.complete(completion("a"))
    pool.engine.load = EngineLoad(active=2)
    await all_of(answer)
    pool.engine.load = EngineLoad()
    answer = await pool.generator.complete(completion("a"))
    pool.leases[-1].alone = False  # another engine has computed
    await all_of(answer)
    assert pool.runs == []


async def test_each_request_tells_its_end_once() -> None:
    pool = ScriptedPool(answered)
    answer = await pool.generator.complete(completion("a", n=2))
    await all_of(answer)
    await answer.aclose()
    (ended,) = pool.ended
    assert (ended.model, ended.outcome) == ("one", "done")
    assert ended.usage is not None
    assert ended.usage.completion_tokens == 4
    assert ended.first_token_s is not None
    assert ended.queued_s == 0.0


async def test_what_was_left_or_failed_tells_that() -> None:
    pool = ScriptedPool(lambda message: [Accepted(message.id, 7), Text(message.id, "so")])
    answer = await pool.generator.complete(completion("a"))
    assert await answer.__aiter__().__anext__() == TextDelta(0, "so")
    await answer.aclose()
    assert [one.outcome for one in pool.ended] == ["cancelled"]
    failing = ScriptedPool(lambda message: [Accepted(message.id, 7), Failed(message.id, "deadline-exceeded", "late")])
    with pytest.raises(DeadlineExceeded):
        await all_of(await failing.generator.complete(completion("a")))
    assert [one.outcome for one in failing.ended] == ["deadline-exceeded"]
    dying = ScriptedPool(lambda _: None)
    with pytest.raises(EngineDied):
        await dying.generator.complete(completion("a"))
    assert [one.outcome for one in dying.ended] == ["engine-died"]


async def test_one_who_reads_too_slowly_frees_the_engine_and_is_told() -> None:
    pool = ScriptedPool(lambda message: [Accepted(message.id, 7)])
    answer = await pool.generator.complete(completion("a"))
    assert pool.engine.cancelled == []
    stream = cast("Any", answer)._stream
    for _ in range(MOST_WAITING + 1):
        stream.push(Text(1, "y"))
    assert pool.engine.cancelled == [1]
    assert pool.leases[0].released
    with pytest.raises(Cancelled, match="wait to be read"):
        await all_of(answer)


@pytest.fixture
async def real() -> AsyncIterator[Pool]:
    settings = PoolSettings(
        slots=2, keep_alive_s=-1, queue_limit=4, threads=1, machine="m", build="b", rungs=rungs_here()
    )

    async def budgets() -> dict[str, Budget]:
        return {RAM: PLENTY}

    pool = Pool(settings, budgets, Planner(), Facts())
    yield pool
    await pool.aclose()


async def test_the_real_model_chats_and_leaves_its_engine_free(real: Pool) -> None:
    generator = Generator(Names(), real)
    answer = await generator.chat(ChatRequest("one", HI, sampling=Sampling(temperature=0), limits=Limits(max_tokens=6)))
    assert answer.model == "one"
    events = await all_of(answer)
    assert "".join(one.text for one in events if isinstance(one, TextDelta))
    assert isinstance(events[-1], Usage)
    with pytest.raises(InvalidRequest, match="99999999"):
        await generator.complete(CompletionRequest("one", ((99999999,),)))
    endless = await generator.complete(CompletionRequest("one", ("a",), limits=Limits(ignore_eos=True)))
    await endless.aclose()
    await endless.aclose()
    lease = await real.lease(installed())
    assert not lease.engine._streams
