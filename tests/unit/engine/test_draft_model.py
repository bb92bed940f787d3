"""A draft model beside the real one: what is told stays the same, and fewer passes tell it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
from tests.support.model import smollm2_path
from tests.unit.engine.test_drafting import CONTEXT, ROWS, Answer, ask, assert_same

from lilliput.engine.request import Intake
from lilliput.engine.runner import Runner
from lilliput.engine.scheduler import SchedulerLimits
from lilliput.engine.speculation import Speculator
from lilliput.engine.wire import Done, Failed, Submit, Text
from lilliput.errors import EngineError
from lilliput.llama import ContextSettings, ModelSettings, SamplerSettings
from lilliput.llama.batch import Batch
from lilliput.llama.context import Context, Decoded
from lilliput.llama.model import Model

SETTINGS = ContextSettings(CONTEXT, ROWS, batch_tokens=128, threads=1, output_rows=ROWS)
PASS_S = 0.1
TOKENS = 24
CHATS = tuple(
    f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    for question in ("Why is the sky blue?", "Tell me about Paris.", "Who wrote Hamlet?")
)
STORY = "The old lighthouse keeper walked along the shore every morning and counted the boats in the harbour. "


class PassClock:
    """Time goes by with passes alone: ``PASS_S`` with each of the model, ``draft_s`` with each of the draft model."""

    def __init__(self, context: Context, draft: Context | None, draft_s: float) -> None:
        self.passes = self.draft_passes = 0
        self.widest_draft = 0
        self.now_s = 0.0
        self._draft_s = draft_s
        self._decode = context.decode
        context.decode = self._timed  # type: ignore[method-assign]
        if draft is not None:
            self._draft_decode = draft.decode
            draft.decode = self._draft_timed  # type: ignore[method-assign]

    def __call__(self) -> float:
        self.now_s += 1e-6
        return self.now_s

    def _timed(self, batch: Batch) -> Decoded:
        self.passes += 1
        self.now_s += PASS_S
        return self._decode(batch)

    def _draft_timed(self, batch: Batch) -> Decoded:
        self.draft_passes += 1
        self.widest_draft = max(self.widest_draft, len(batch))
        self.now_s += self._draft_s * max(1.0, len(batch) / 8)
        return self._draft_decode(batch)


class Served:
    """A runner that knows that the number of tokens makes no difference to a pass, with what it has told."""

    def __init__(
        self,
        context: Context,
        draft: Context | None = None,
        slots: int = 1,
        draft_s: float = 0.001,
        context_tokens: int = CONTEXT,
        settings: ContextSettings = SETTINGS,
    ) -> None:
        speculator = Speculator(ROWS)
        for width in range(1, ROWS + 1):
            speculator.note(width, PASS_S)
        self.clock = PassClock(context, draft, draft_s)
        limits = SchedulerLimits(slots, context_tokens, 128)
        self.runner = Runner(context, limits, ROWS, self.clock, speculator=speculator)
        if draft is not None:
            self.runner.draft_with(draft, settings)
        self._intake = Intake(context.model, context_tokens)
        self._pieces: dict[int, list[Text]] = {}
        self.answers: dict[int, Answer] = {}

    def submit(self, *submits: Submit) -> None:
        for one in submits:
            self._pieces[one.id] = []
            self.runner.submit(self._intake.request(one))

    def step(self) -> None:
        self.runner.step()
        self.runner.check_integrity()
        for event in self.runner.news().events:
            assert not isinstance(event, Failed), event
            if isinstance(event, Text):
                self._pieces[event.id].append(event)
            elif isinstance(event, Done):
                told = self._pieces[event.id]
                reports = [report for one in told for report in one.reports]
                self.answers[event.id] = Answer("".join(one.text for one in told), reports, event)

    def finish(self) -> dict[int, Answer]:
        while self.runner.has_work:
            self.step()
        return self.answers


@pytest.fixture
def contexts(model: Model) -> Iterator[tuple[Context, Context, Context]]:
    """One without drafts, one with them, and that of the draft model: the same one."""
    with ExitStack() as stack:
        yield tuple(stack.enter_context(Context(model, SETTINGS)) for _ in range(3))  # type: ignore[misc]


def shares(answers: dict[int, Answer]) -> tuple[int, int]:
    done = [one.done for one in answers.values()]
    return sum(one.drafted for one in done), sum(one.accepted for one in done)


def plain_answers(context: Context, submits: list[Submit], slots: int = 1) -> Served:
    served = Served(context, slots=slots)
    served.submit(*(msgspec.structs.replace(one, speculation=False) for one in submits))
    served.finish()
    return served


def chats(**options: object) -> list[Submit]:
    return [ask(number, chat, **{"max_tokens": TOKENS} | options) for number, chat in enumerate(CHATS)]


@pytest.mark.parametrize("slots", [1, 3])
def test_at_temperature_0_a_model_that_drafts_for_itself_is_nearly_always_right(
    contexts: tuple[Context, Context, Context], slots: int
) -> None:
    plain = plain_answers(contexts[0], chats(), slots)
    served = Served(contexts[1], contexts[2], slots)
    served.submit(*chats())
    served.finish()
    drafted, accepted = shares(served.answers)
    assert accepted > TOKENS
    assert accepted > 0.9 * drafted
    assert served.clock.passes < 0.6 * plain.clock.passes
    assert served.clock.now_s < 0.7 * plain.clock.now_s
    for number in range(len(CHATS)):
        assert_same(plain.answers[number], served.answers[number])
        assert len(served.answers[number].reports) == served.answers[number].done.completion_tokens


def test_with_a_seed_the_same_is_drawn_as_without_a_draft_model(contexts: tuple[Context, Context, Context]) -> None:
    submits = chats(sampler=SamplerSettings(temperature=0.8, seed=7))
    plain, served = plain_answers(contexts[0], submits), Served(contexts[1], contexts[2])
    served.submit(*submits)
    served.finish()
    drafted, accepted = shares(served.answers)
    assert 0 < accepted < drafted
    for number in range(len(CHATS)):
        assert_same(plain.answers[number], served.answers[number])
    equal = [number for number in range(len(CHATS)) if plain.answers[number].text == served.answers[number].text]
    assert equal, "on a processor whose kernels round differently by width"


def test_one_that_takes_as_long_as_the_model_itself_is_turned_off(contexts: tuple[Context, Context, Context]) -> None:
    plain = plain_answers(contexts[0], chats(), 3)
    served = Served(contexts[1], contexts[2], 3, draft_s=1.5 * PASS_S)
    served.submit(*chats())
    served.finish()
    assert served.clock.draft_passes < 6
    served.submit(*(msgspec.structs.replace(one, id=10 + one.id) for one in chats()))
    before = served.clock.draft_passes, served.clock.now_s
    served.finish()
    assert served.clock.draft_passes - before[0] <= 2
    assert served.clock.now_s - before[1] < 1.2 * plain.clock.now_s


def test_a_request_that_wants_no_speculation_is_not_drafted_for(contexts: tuple[Context, Context, Context]) -> None:
    served = Served(contexts[1], contexts[2])
    served.submit(ask(1, CHATS[0], max_tokens=6, speculation=False))
    assert served.finish()[1].done.drafted == 0
    assert served.clock.draft_passes == 0


def test_a_long_prompt_is_caught_up_with_in_pieces_within_the_gap_and_shared_between_choices(
    contexts: tuple[Context, Context, Context],
) -> None:
    served = Served(contexts[1], contexts[2], 2, draft_s=0.02)
    prompt = STORY * 20 + "Then he"
    served.submit(ask(1, prompt, max_tokens=TOKENS), ask(2, prompt, max_tokens=TOKENS))
    worst_s = 0.0
    while served.runner.has_work:
        began = served.clock.now_s
        served.step()
        worst_s = max(worst_s, served.clock.now_s - began)
    prompt_tokens = served.answers[1].done.prompt_tokens
    assert prompt_tokens > 300
    assert shares(served.answers)[1] > 0
    assert worst_s < 3 * PASS_S, "the first chunk is a guess, later ones are not"
    assert served.clock.widest_draft <= 64
    assert served.clock.draft_passes < prompt_tokens / 8, "the second choice has its beginning from the first"


def test_what_a_turn_said_is_known_in_the_next_one(contexts: tuple[Context, Context, Context]) -> None:
    served = Served(contexts[1], contexts[2])
    prompt = CHATS[0]
    for turn in range(3):
        served.submit(ask(turn, prompt, max_tokens=12))
        served.finish()
        prompt += served.answers[turn].text
        assert served.clock.widest_draft < 40, "only the first turn has a prompt to catch up with"
    assert all(one.done.cached_tokens for number, one in served.answers.items() if number)
    plain = plain_answers(contexts[0], [ask(1, CHATS[0], max_tokens=36)])
    assert prompt == CHATS[0] + plain.answers[1].text


def test_a_draft_model_that_fails_is_left_alone_and_no_request_hears_of_it(
    contexts: tuple[Context, Context, Context], caplog: pytest.LogCaptureFixture
) -> None:
    served = Served(contexts[1], contexts[2])
    served.submit(ask(1, CHATS[0], max_tokens=TOKENS))
    for _ in range(6):
        served.step()

    def fail(_batch: Batch) -> Decoded:
        raise EngineError("llama_decode failed with -3")

    contexts[2].decode = fail  # type: ignore[method-assign, assignment]
    served.finish()
    assert served.answers[1].text == plain_answers(contexts[0], [ask(1, CHATS[0], max_tokens=TOKENS)]).answers[1].text
    assert caplog.text.count("the draft model fails") == 1


def test_a_draft_cache_without_room_starts_again(contexts: tuple[Context, Context, Context]) -> None:
    served = Served(contexts[1], contexts[2])
    decode, refusals = contexts[2].decode, iter([Decoded.DONE, Decoded.NO_ROOM, Decoded.DONE, Decoded.ABORTED])

    def scarce(batch: Batch) -> Decoded:
        outcome = next(refusals, Decoded.DONE)
        return decode(batch) if outcome is Decoded.DONE else outcome

    contexts[2].decode = scarce  # type: ignore[method-assign]
    served.submit(ask(1, CHATS[0], max_tokens=TOKENS))
    done = served.finish()[1].done
    assert done.completion_tokens == TOKENS
    assert done.accepted > 0


def test_cancelling_and_sliding_leave_the_draft_cache_in_step(contexts: tuple[Context, Context, Context]) -> None:
    served = Served(contexts[1], contexts[2], 2, context_tokens=256)
    served.submit(ask(1, STORY * 11, max_tokens=60, keep_tokens=5, ignore_eos=True), ask(2, CHATS[1], max_tokens=60))
    for _ in range(12):
        served.step()
    served.runner.cancel(2)
    served.runner.check_integrity()
    served.submit(ask(3, CHATS[2], max_tokens=12))
    served.finish()
    assert served.answers[1].done.discarded > 0
    assert set(served.answers) == {1, 3}
    assert shares(served.answers)[1] > 0


def test_another_model_of_the_vocabulary_drafts_what_it_can(
    contexts: tuple[Context, Context, Context], tmp_path: Path
) -> None:
    """A worse quantization, in a process of its own made: it is right often, not always."""
    target = tmp_path / "draft.gguf"
    command = [sys.executable, "-m", "tests.support.quantize", str(smollm2_path()), str(target), "Q2_K", "-"]
    subprocess.run(command, check=True)
    plain = plain_answers(contexts[0], chats())
    with Model(ModelSettings(str(target), rung="no-extra-buffers")) as other, Context(other, SETTINGS) as draft:
        served = Served(contexts[1], draft)
        served.submit(*chats())
        served.finish()
    drafted, accepted = shares(served.answers)
    assert 0.2 * drafted < accepted < drafted
    for number in range(len(CHATS)):
        assert_same(plain.answers[number], served.answers[number])
