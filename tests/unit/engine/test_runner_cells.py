"""What becomes of cells and prefixes when several requests share them, leave, or find no room."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
from tests.support.model import gemma_path
from tests.unit.engine.test_runner import CONTEXT, GREEDY, done_of, run, submit, text_of

from lilliput.engine.prefix_store import PrefixStore
from lilliput.engine.request import Intake
from lilliput.engine.runner import Runner
from lilliput.engine.scheduler import SchedulerLimits
from lilliput.engine.wire import Done, Failed, Submit
from lilliput.llama import ContextSettings, ModelSettings
from lilliput.llama.batch import Batch
from lilliput.llama.context import Context, Decoded
from lilliput.llama.model import Model
from lilliput.units import MIB

PREFACE = "The quick brown fox jumps over the lazy dog. " * 12


@pytest.fixture
def context(model: Model) -> Iterator[Context]:
    with Context(model, ContextSettings(CONTEXT, 8, batch_tokens=128, threads=2)) as made:
        yield made


def clock(tick_s: float = 1.0) -> Callable[[], float]:
    ticks = itertools.count()
    return lambda: next(ticks) * tick_s


def runner_of(context: Context, store_bytes: int = 0, slots: int = 4, tick_s: float = 1.0) -> Runner:
    store = PrefixStore(store_bytes) if store_bytes else None
    return Runner(context, SchedulerLimits(slots, CONTEXT, 128), 8, clock(tick_s), store)


def test_what_builds_on_a_state_that_finds_no_cells_is_computed_again_too(
    model: Model, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = runner_of(context, 64 * MIB)
    alone = []
    for number, end in enumerate(("One", "Two")):
        submit(runner, model, number, PREFACE + end, max_tokens=12)
        alone.append(text_of(run(runner), number))
    for number in range(2, 9):
        submit(runner, model, number, f"{number} other story. " * 25)
        run(runner)
    monkeypatch.setattr(context, "restore", lambda slot, state: False)
    for number, end in ((10, "One"), (11, "Two")):
        submit(runner, model, number, PREFACE + end, max_tokens=12)
    runner.step()
    runner.check_integrity()
    events = run(runner)
    assert [text_of(events, number) for number in (10, 11)] == alone
    runner.check_integrity()


def test_a_state_takes_the_cells_of_idle_prefixes_where_there_are_no_others(
    model: Model, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = runner_of(context, 64 * MIB)
    submit(runner, model, 1, PREFACE)
    run(runner)
    for number in range(2, 9):
        submit(runner, model, number, f"{number} other story. " * 25)
        run(runner)
    real, answers = context.restore, iter([False])
    monkeypatch.setattr(context, "restore", lambda slot, state: next(answers, True) and real(slot, state))
    submit(runner, model, 10, PREFACE)
    assert done_of(run(runner), 10).cached_tokens > 100
    runner.check_integrity()
    counters = runner.news().counters
    assert counters is not None
    assert counters.restored_states == 1
    assert counters.saved_states >= 1
    assert 0 < counters.store_bytes <= 64 * MIB


def test_two_users_whose_prefixes_no_store_takes_keep_them_while_there_is_room(model: Model, context: Context) -> None:
    runner = runner_of(context, MIB // 2)
    stories = {1: "First story. " * 40, 2: "Second tale. " * 40}
    for turn in range(3):
        for user, story in stories.items():
            submit(runner, model, user, story + " And then" * turn, max_tokens=4)
            done = done_of(run(runner), user)
            assert turn == 0 or done.cached_tokens > 100
    runner.check_integrity()


def test_cells_that_idle_prefixes_share_count_once(model: Model, context: Context) -> None:
    runner = runner_of(context)
    for number in range(3):
        submit(runner, model, number, f"{PREFACE} Question {number}:", max_tokens=2)
    prompt = max(done_of(run(runner), number).prompt_tokens for number in range(1))
    news = runner.news()
    assert news.cells == news.cached_tokens < prompt + 60
    runner.check_integrity()


@pytest.mark.parametrize("many", [False, True])
def test_a_pass_is_ended_early_only_where_nobody_else_has_to_start_over(
    model: Model, context: Context, monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    monkeypatch.setattr(Model, "can_roll_back", property(lambda _: False))
    runner = runner_of(context, tick_s=0.001)
    if many:
        submit(runner, model, 1, "A tale", max_tokens=100, ignore_eos=True)
        runner.step()
    submit(runner, model, 2, PREFACE)
    asked = []
    real = context.decode

    def decode(batch: Batch) -> Decoded:
        asked.append(runner.computes_prompt_of(2))
        return real(batch)

    monkeypatch.setattr(context, "decode", decode)
    runner.step()
    assert asked == [not many]


def test_an_urgent_request_takes_the_slot_of_one_that_is_not(model: Model, context: Context) -> None:
    runner = runner_of(context, slots=1, tick_s=0.001)
    submit(runner, model, 1, "A long tale about", max_tokens=60, ignore_eos=True, urgent=False)
    alone = text_of(run(runner))
    for slot in range(8):
        context.drop(slot)
    runner = runner_of(context, slots=1, tick_s=0.001)
    submit(runner, model, 1, "A long tale about", max_tokens=60, ignore_eos=True, urgent=False)
    for _ in range(5):
        runner.step()
    begun = runner.news().events
    submit(runner, model, 2, "What now?", max_tokens=4, ignore_eos=True)
    events = begun + run(runner)
    assert [event.id for event in events if isinstance(event, Done)] == [2, 1]
    assert text_of(events) == alone
    counters = runner.news().counters
    assert counters is not None
    assert counters.prefill_tokens < 20  # nothing was computed again


def test_ended_requests_leave_no_deadline_behind(model: Model, context: Context) -> None:
    runner = runner_of(context)
    for number in range(3):
        submit(runner, model, number, "A tale", max_tokens=2, deadline_s=80_000.0)
    run(runner)
    runner.check_integrity()
    assert runner._deadlines == []


def test_time_that_went_by_before_a_request_came_counts(model: Model, context: Context) -> None:
    runner = runner_of(context)
    submit(runner, model, 1, "A tale", max_tokens=300, ignore_eos=True, deadline_s=1000.0, waited_s=990.0)
    (failed,) = [event for event in run(runner) if isinstance(event, Failed)]
    assert "1000 s" in failed.message


def test_saving_states_is_not_taken_for_the_time_of_passes(
    model: Model, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    def tick() -> float:
        now[0] += 0.001
        return now[0]

    runner = Runner(context, SchedulerLimits(4, CONTEXT, 128), 8, tick, PrefixStore(64 * MIB))
    real = context.save

    def save(slot: int) -> memoryview:
        now[0] += 100.0
        return real(slot)

    monkeypatch.setattr(context, "save", save)
    monkeypatch.setattr("lilliput.engine.kv_cache.COPY_BYTES_S", 1e12)
    for number in range(10):
        submit(runner, model, number, f"{number} other story. " * 25, max_tokens=3)
        run(runner)
    assert now[0] > 100
    counters = runner.news().counters
    assert counters is not None
    assert counters.step_s < 1


def test_what_grammars_need_of_the_vocabulary_is_made_while_reading(model: Model) -> None:
    model.__dict__.pop("first_bytes", None)
    Intake(model, CONTEXT).request(Submit(id=1, prompt="x", sampler=GREEDY, schema="")).sampler.close()
    assert "first_bytes" in model.__dict__


@pytest.mark.parametrize("words", [40, 700])
def test_choices_of_one_prompt_prefill_it_once_where_a_window_slides(words: int) -> None:
    settings = ContextSettings(2048, 6, batch_tokens=128, threads=2)
    with (
        Model(ModelSettings(str(gemma_path()), rung="no-extra-buffers")) as gemma,
        Context(gemma, settings) as context,
    ):
        assert not gemma.can_roll_back
        runner = Runner(context, SchedulerLimits(3, 2048, 128), 6, clock(0.001))
        intake = Intake(gemma, 2048)
        prompt = gemma.tokenize("The sea is wide and blue. " * (words // 7), add_special=True, parse_special=False)
        for number in range(3):
            message = Submit(number, prompt, GREEDY, max_tokens=8, ignore_eos=True, speculation=False)
            runner.submit(intake.request(message))
        events = run(runner)
    assert [done_of(events, number).cached_tokens for number in range(3)] == [0, *[len(prompt) - 1] * 2]
    assert len({text_of(events, number) for number in range(3)}) == 1


def test_prefixes_can_be_dropped_between_the_passes_of_running_requests(model: Model, context: Context) -> None:
    runner = runner_of(context, 64 * MIB)
    submit(runner, model, 0, PREFACE + "One", max_tokens=8)
    alone = text_of(run(runner), 0)
    for number in range(1, 9):
        submit(runner, model, number, f"{number} other story. " * 25)
        run(runner)
    assert runner.news().counters is not None
    submit(runner, model, 10, PREFACE + "One", max_tokens=8)
    runner.step()
    runner.drop_prefixes()
    runner.check_integrity()
    told = runner.news()
    assert told.counters is not None
    assert (told.counters.store_bytes, told.cached_tokens) == (0, 0)
    assert text_of([*told.events, *run(runner)], 10) == alone
    submit(runner, model, 11, "8 other story. " * 25)
    assert done_of(run(runner), 11).cached_tokens < 10  # it is computed again
    runner.check_integrity()
