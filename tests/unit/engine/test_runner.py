from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from lilliput.engine.prefix_store import PrefixStore
from lilliput.engine.request import Intake
from lilliput.engine.runner import Runner
from lilliput.engine.scheduler import SchedulerLimits
from lilliput.engine.wire import Accepted, Done, Event, Failed, Submit, Text
from lilliput.errors import BadGrammar, ContextExceeded, InvalidRequest
from lilliput.llama import ContextSettings, SamplerSettings
from lilliput.llama.context import Context, Decoded
from lilliput.llama.model import Model
from lilliput.units import MIB

GREEDY = SamplerSettings(temperature=0)
PROMPT = "<|im_start|>user\nCount from {} upwards.<|im_end|>\n<|im_start|>assistant\n"
CONTEXT = 512


@pytest.fixture
def context(model: Model) -> Iterator[Context]:
    with Context(model, ContextSettings(CONTEXT, 8, batch_tokens=128, threads=2)) as made:
        yield made


@pytest.fixture
def runner(context: Context) -> Runner:
    clock = itertools.count()
    return Runner(context, SchedulerLimits(4, CONTEXT, 128), 8, lambda: float(next(clock)))


def run(runner: Runner, limit: int = 2000) -> list[Event]:
    events: list[Event] = list(runner.news().events)
    for _ in range(limit):
        if not runner.has_work:
            return events
        runner.step()
        events += runner.news().events
    raise AssertionError("the runner never came to an end")


def submit(runner: Runner, model: Model, request_id: int = 1, prompt: str | list[int] = "", **options: object) -> None:
    fields = {"sampler": GREEDY, "max_tokens": 8} | options
    message = Submit(id=request_id, prompt=prompt or PROMPT.format(1), **fields)  # type: ignore[arg-type]
    runner.submit(Intake(model, CONTEXT).request(message))


def text_of(events: list[Event], request_id: int = 1) -> str:
    return "".join(event.text for event in events if isinstance(event, Text) and event.id == request_id)


def done_of(events: list[Event], request_id: int = 1) -> Done:
    (done,) = [event for event in events if isinstance(event, Done) and event.id == request_id]
    return done


def test_a_request_is_accepted_streams_and_ends(model: Model, runner: Runner) -> None:
    submit(runner, model)
    events = run(runner)
    assert isinstance(events[0], Accepted)
    assert events[0].prompt_tokens > 10
    assert isinstance(events[-1], Done)
    assert (events[-1].reason, events[-1].completion_tokens) == ("length", 8)
    assert text_of(events)


def test_the_model_ends_its_answer_by_itself(model: Model, runner: Runner) -> None:
    submit(runner, model, prompt=PROMPT.replace("Count from {} upwards.", "Say only: hi"), max_tokens=200)
    events = run(runner)
    assert done_of(events).reason == "stop"
    assert "<|im_end|>" not in text_of(events)


def test_ignore_eos_goes_on_to_the_limit(model: Model, runner: Runner) -> None:
    submit(
        runner, model, prompt=PROMPT.replace("Count from {} upwards.", "Say only: hi"), max_tokens=60, ignore_eos=True
    )
    assert done_of(run(runner)).completion_tokens == 60


def test_a_stop_string_ends_the_answer_before_it(model: Model, runner: Runner) -> None:
    submit(runner, model, max_tokens=40)
    whole = text_of(run(runner))
    stop = whole[len(whole) // 2 : len(whole) // 2 + 3]
    submit(runner, model, 2, max_tokens=40, stop=(stop,))
    events = run(runner)
    assert text_of(events, 2) == whole[: whole.index(stop)]
    assert done_of(events, 2).reason == "stop"


def test_several_sequences_run_in_the_same_steps(model: Model, runner: Runner) -> None:
    for number in range(6):
        submit(runner, model, number, PROMPT.format(number * 100), max_tokens=12)
    runner.step()
    assert runner.news().active == 4
    events = run(runner)
    assert all(done_of(events, number).completion_tokens == 12 for number in range(6))


def test_the_second_request_with_the_same_prompt_decodes_one_token_of_it(model: Model, runner: Runner) -> None:
    submit(runner, model)
    first = run(runner)
    submit(runner, model, 2)
    second = run(runner)
    done = done_of(second, 2)
    assert done.cached_tokens == done.prompt_tokens - 1
    assert text_of(second, 2) == text_of(first)


def test_requests_with_one_long_prefix_prefill_it_once(model: Model, runner: Runner) -> None:
    preface = "The quick brown fox jumps over the lazy dog. " * 12
    for number in range(3):
        submit(runner, model, number, f"{preface} Question {number}:", max_tokens=4)
    events = run(runner)
    assert done_of(events, 0).cached_tokens == 0
    assert all(done_of(events, number).cached_tokens > 100 for number in (1, 2))


def test_when_the_cache_is_full_the_youngest_is_recomputed_and_nobody_fails(model: Model, runner: Runner) -> None:
    for number in range(3):
        submit(runner, model, number, f"{number} story. " * 25, max_tokens=120, ignore_eos=True)
    events = run(runner)
    assert not [event for event in events if isinstance(event, Failed)]
    assert [done_of(events, number).completion_tokens for number in range(3)] == [120, 120, 120]
    counters = runner.news().counters
    assert counters is not None
    assert counters.preemptions >= 1


def test_a_sequence_that_was_sent_back_is_restored_as_it_was(
    model: Model, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count()
    store = PrefixStore(64 * MIB)
    runner = Runner(context, SchedulerLimits(4, CONTEXT, 128), 8, lambda: float(next(clock)), store)
    alone = []
    for number in range(3):
        submit(runner, model, number, f"{number} story. " * 25, max_tokens=120, ignore_eos=True)
        alone.append(text_of(run(runner), number))
    restored = []
    real = context.restore

    def restore(slot: int, state: bytes) -> bool:
        restored.append(slot)
        return real(slot, state)

    monkeypatch.setattr(context, "restore", restore)
    for number in range(3):
        submit(runner, model, number, f"{number} story. " * 25, max_tokens=120, ignore_eos=True)
    events = run(runner)
    assert restored
    assert [done_of(events, number).completion_tokens for number in range(3)] == [120, 120, 120]
    assert sum(text_of(events, number)[:80] == alone[number][:80] for number in range(3)) >= 2


def test_a_state_that_finds_no_cells_is_computed_again(
    model: Model, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count()
    store = PrefixStore(64 * MIB)
    runner = Runner(context, SchedulerLimits(4, CONTEXT, 128), 8, lambda: float(next(clock)), store)
    prompt = "The quick brown fox jumps over the lazy dog. " * 12
    submit(runner, model, 1, prompt)
    expected = text_of(run(runner))
    for number in range(2, 8):
        submit(runner, model, number, f"{number} other story. " * 25)
        run(runner)
    assert len(store) > 0
    monkeypatch.setattr(context, "restore", lambda slot, state: False)
    submit(runner, model, 9, prompt)
    assert text_of(run(runner), 9) == expected


def test_a_request_past_its_deadline_fails_whether_it_waits_or_runs(model: Model, runner: Runner) -> None:
    submit(runner, model, 1, max_tokens=400, ignore_eos=True, deadline_s=40.0)
    for number in range(2, 6):
        submit(runner, model, number, max_tokens=4, deadline_s=None if number < 5 else 0.5)
    events = run(runner)
    failed = {event.id: event for event in events if isinstance(event, Failed)}
    assert {number: event.code for number, event in failed.items()} == {
        1: "deadline-exceeded",
        5: "deadline-exceeded",
    }
    assert "40 s" in failed[1].message
    assert text_of(events, 1)
    assert [done_of(events, number).completion_tokens for number in (2, 3, 4)] == [4, 4, 4]


def test_what_is_not_urgent_lets_others_go_first_but_gets_its_turn(model: Model, context: Context) -> None:
    clock = itertools.count()
    runner = Runner(context, SchedulerLimits(1, CONTEXT, 128), 8, lambda: next(clock) / 1000)
    submit(runner, model, 1, urgent=False)
    submit(runner, model, 2)
    ended = [event.id for event in run(runner) if isinstance(event, Done)]
    assert ended == [2, 1]


def test_an_answer_ends_with_length_where_the_context_ends(model: Model, runner: Runner) -> None:
    submit(runner, model, prompt="tale " * 450, max_tokens=None, ignore_eos=True)
    done = done_of(run(runner))
    assert done.reason == "length"
    assert done.prompt_tokens + done.completion_tokens == CONTEXT


def test_cancel_frees_the_sequence_whether_it_waits_or_runs(model: Model, runner: Runner) -> None:
    for number in range(5):
        submit(runner, model, number, PROMPT.format(number), max_tokens=400, ignore_eos=True)
    runner.step()
    for number in range(5):
        runner.cancel(number)
    news = runner.news()
    assert (news.active, news.waiting) == (0, 0)
    assert not runner.has_work
    runner.cancel(3)


def test_an_aborted_pass_is_done_again_with_the_same_result(
    model: Model, context: Context, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(runner, model)
    expected = text_of(run(runner))
    real = context.decode
    outcomes = iter([Decoded.ABORTED, None, Decoded.ABORTED])

    def decode(batch: object) -> Decoded:
        real_outcome = real(batch)  # type: ignore[arg-type]
        return next(outcomes, None) or real_outcome

    monkeypatch.setattr(context, "decode", decode)
    submit(runner, model, 2, PROMPT.format(1))
    assert text_of(run(runner), 2) == expected


def test_logprobs_come_with_their_text_and_stop_strings_take_theirs_along(model: Model, runner: Runner) -> None:
    submit(runner, model, top_logprobs=2)
    events = run(runner)
    reports = [report for event in events if isinstance(event, Text) for report in event.reports]
    assert b"".join(report.token for report in reports).decode() == text_of(events)
    assert all(len(report.top) == 2 and report.logprob <= 0 for report in reports)
    assert all(report.top[0][1] == pytest.approx(report.logprob, abs=1e-6) for report in reports)


def test_a_schema_holds_the_answer_to_json(model: Model, runner: Runner) -> None:
    schema = '{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"],"additionalProperties":false}'
    submit(runner, model, max_tokens=60, schema=schema)
    text = text_of(run(runner))
    assert text.startswith("{")
    assert '"n"' in text


def test_what_is_wrong_with_a_request_is_named(model: Model) -> None:
    def read(prompt: str | list[int] = "x", sampler: SamplerSettings = GREEDY, schema: str | None = None) -> None:
        Intake(model, 64).request(Submit(id=1, prompt=prompt, sampler=sampler, schema=schema))

    with pytest.raises(ContextExceeded) as long:
        read(prompt="word " * 100)
    assert (long.value.prompt_tokens > 64, long.value.context_tokens) == (True, 64)
    with pytest.raises(InvalidRequest, match="token 99999999"):
        read(prompt=[99999999])
    with pytest.raises(InvalidRequest, match="logit_bias"):
        read(sampler=SamplerSettings(logit_bias=((-5, 1.0),)))
    with pytest.raises(BadGrammar):
        read(schema='{"type":"nonsense"}')


def test_an_empty_prompt_begins_with_the_first_token_of_a_text(model: Model, runner: Runner) -> None:
    message = Submit(id=1, prompt="", sampler=GREEDY, max_tokens=3)
    runner.submit(Intake(model, CONTEXT).request(message))
    assert done_of(run(runner)).prompt_tokens == 1


def test_a_request_that_breaks_the_reading_of_it_is_answered_and_does_not_end_the_reader(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> list[int]:
        raise UnicodeEncodeError("utf-8", "x", 0, 1, "surrogates not allowed")

    intake = Intake(model, CONTEXT)
    monkeypatch.setattr(model, "tokenize", broken)
    failed = intake.read(Submit(id=7, prompt="x", sampler=GREEDY))
    assert isinstance(failed, Failed)
    assert (failed.id, failed.code) == (7, "engine-error")


def test_the_choices_of_one_prompt_are_tokenized_once(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    real = model.tokenize

    def counting(text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        texts.append(text)
        return real(text, add_special=add_special, parse_special=parse_special)

    monkeypatch.setattr(model, "tokenize", counting)
    intake = Intake(model, CONTEXT)
    requests = [intake.request(Submit(id=n, prompt="one two", sampler=GREEDY)) for n in range(3)]
    assert texts == ["one two"]
    requests[0].sequence.tokens.append(5)
    assert requests[1].sequence.tokens == requests[2].sequence.tokens != requests[0].sequence.tokens


def test_news_that_somebody_waits_for_are_urgent(model: Model, runner: Runner) -> None:
    submit(runner, model, max_tokens=4)
    urgent = [runner.urgent]
    while runner.has_work:
        runner.news()
        runner.step()
        urgent.append(runner.urgent)
    assert urgent == [True, True, False, False, True]


def test_news_carry_what_the_passes_add_up_to(model: Model, runner: Runner) -> None:
    for request_id in (1, 2):
        submit(runner, model, request_id, PROMPT.format(request_id), speculation=False)
    events = run(runner)
    news = runner.news()
    assert news.counters is not None
    counters = news.counters
    prompts = sum(done_of(events, one).prompt_tokens for one in (1, 2))
    assert counters.prefill_tokens + counters.cached_tokens == prompts
    assert counters.cached_tokens == sum(done_of(events, one).cached_tokens for one in (1, 2))
    assert counters.decode_tokens == sum(counters.gaps) == 2 * 7  # the first token of each comes with its prompt
    assert 8 <= counters.steps <= 16
    assert counters.step_s > 0
    assert counters.preemptions == 0
    assert news.cells == news.cached_tokens > 0
    assert done_of(events).queued_s >= 0
