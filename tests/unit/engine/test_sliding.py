"""A full context that goes on: what is discarded, and that nothing but that changes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from tests.support.model import gemma_path
from tests.unit.engine.test_runner import GREEDY, done_of, run, text_of

from lilliput.engine.request import Intake, Request
from lilliput.engine.runner import Runner
from lilliput.engine.scheduler import SchedulerLimits
from lilliput.engine.sliding import excess_tokens, kept_tokens
from lilliput.engine.wire import Accepted, Event, Failed, Submit
from lilliput.errors import ContextExceeded, InvalidRequest
from lilliput.llama import ContextSettings, ModelSettings
from lilliput.llama.context import Context
from lilliput.llama.model import Model

CONTEXT = 256
STORY = "The quick brown fox jumps over the lazy dog near the river bank. " * 5


@pytest.fixture
def context(model: Model) -> Iterator[Context]:
    with Context(model, ContextSettings(CONTEXT, 8, batch_tokens=128, threads=1)) as made:
        yield made


def runner_of(context: Context) -> Runner:
    for slot in range(8):
        context.drop(slot)
    return Runner(context, SchedulerLimits(4, CONTEXT, 128), 8, itertools.count().__next__)


def ask(runner: Runner, model: Model, prompt: str | list[int], number: int = 1, **options: object) -> Request:
    fields = {"sampler": GREEDY, "ignore_eos": True} | options
    request = Intake(model, CONTEXT).request(Submit(id=number, prompt=prompt, **fields))  # type: ignore[arg-type]
    runner.submit(request)
    return request


def run_checked(runner: Runner) -> list[Event]:
    """As ``run``, and after each pass every cell is where it should be."""
    events: list[Event] = []
    while runner.has_work:
        runner.step()
        runner.check_integrity()
        events += runner.news().events
    return events


def go_on_by_hand(context: Context, model: Model, tokens: list[int], max_tokens: int) -> str:
    """The text that a client gets who cuts the tokens by half and asks anew whenever the context is full."""
    text = ""
    while max_tokens:
        runner = runner_of(context)
        request = ask(runner, model, tokens, max_tokens=max_tokens, speculation=False)
        text += text_of(run(runner))
        max_tokens -= request.sequence.generated
        tokens = request.sequence.tokens[CONTEXT // 2 :]
    return text


@pytest.mark.parametrize("speculation", [False, True])
def test_an_answer_goes_on_as_if_what_is_left_had_been_its_prompt(
    model: Model, context: Context, speculation: bool
) -> None:
    tokens = model.tokenize(STORY, add_special=False, parse_special=False)
    by_hand = go_on_by_hand(context, model, tokens, 400)
    runner = runner_of(context)
    request = ask(runner, model, tokens, max_tokens=400, keep_tokens=0, speculation=speculation)
    events = run_checked(runner)
    done = done_of(events)
    assert text_of(events) == by_hand
    assert (done.reason, done.completion_tokens, done.prompt_tokens) == ("length", 400, len(tokens))
    assert done.discarded == CONTEXT
    assert len(request.sequence.tokens) == len(tokens) + 400 - done.discarded


def test_the_beginning_stays_where_that_is_asked(model: Model, context: Context) -> None:
    runner = runner_of(context)
    request = ask(runner, model, STORY, max_tokens=400, keep_tokens=-1)
    prompt = list(request.sequence.tokens)
    done = done_of(run_checked(runner))
    assert request.sequence.tokens[: len(prompt)] == prompt
    assert done.discarded % ((CONTEXT - len(prompt)) // 2) == 0
    assert done.discarded > CONTEXT
    assert done.completion_tokens == 400


def test_who_shares_cells_with_it_does_not_notice(model: Model, context: Context) -> None:
    runner = runner_of(context)
    ask(runner, model, STORY, 7, max_tokens=90)
    alone = text_of(run(runner), 7)
    runner = runner_of(context)
    ask(runner, model, STORY, 7, max_tokens=90)
    for number in (1, 2):
        ask(runner, model, STORY, number, max_tokens=300, keep_tokens=20 * number)
    events = run_checked(runner)
    assert done_of(events, 1).cached_tokens > 50
    assert text_of(events, 7) == alone
    assert all(done_of(events, number).completion_tokens == 300 for number in (1, 2))
    assert all(done_of(events, number).discarded > 0 for number in (1, 2))


def test_what_is_kept_for_reuse_afterwards_is_what_is_really_there(model: Model, context: Context) -> None:
    runner = runner_of(context)
    ask(runner, model, STORY, 1, max_tokens=40)
    before = text_of(run(runner), 1)
    request = ask(runner, model, STORY, 2, max_tokens=250, keep_tokens=16)
    run_checked(runner)
    left = list(request.sequence.tokens)
    again = ask(runner, model, left, 3, max_tokens=4)
    assert done_of(run_checked(runner), 3).cached_tokens == len(left) - 1
    assert again.sequence.tokens[: len(left)] == left
    ask(runner, model, STORY, 4, max_tokens=40)
    events = run_checked(runner)
    assert text_of(events, 4) == before


def test_a_prompt_that_is_too_long_loses_what_comes_after_its_beginning(model: Model, context: Context) -> None:
    tokens = [100 + number % 1000 for number in range(700)]
    runner = runner_of(context)
    request = ask(runner, model, tokens, max_tokens=8, keep_tokens=56)
    assert request.sequence.tokens == tokens[:56] + tokens[556:]
    events = run_checked(runner)
    assert isinstance(events[0], Accepted)
    assert (events[0].prompt_tokens, done_of(events).discarded) == (700, 500)
    runner = runner_of(context)
    ask(runner, model, tokens[:56] + tokens[556:], max_tokens=8)
    assert text_of(run(runner)) == text_of(events)


def test_a_model_that_cannot_forget_a_part_computes_all_again() -> None:
    with (
        Model(ModelSettings(str(gemma_path()), rung="no-extra-buffers")) as model,
        Context(model, ContextSettings(CONTEXT, 2, batch_tokens=128, threads=1)) as context,
    ):
        runner = Runner(context, SchedulerLimits(1, CONTEXT, 128), 2, itertools.count().__next__)
        ask(runner, model, STORY, max_tokens=250, keep_tokens=30)
        done = done_of(run_checked(runner))
    assert (done.reason, done.completion_tokens) == ("length", 250)
    assert done.discarded > 0


def test_who_does_not_ask_for_it_gets_an_end(model: Model, context: Context) -> None:
    runner = runner_of(context)
    request = ask(runner, model, STORY, max_tokens=400)
    done = done_of(run(runner))
    assert (done.reason, done.discarded) == ("length", 0)
    assert len(request.sequence.tokens) == CONTEXT
    with pytest.raises(ContextExceeded):
        ask(runner, model, [1] * CONTEXT)


def test_a_limit_reached_with_the_context_is_the_end(model: Model, context: Context) -> None:
    runner = runner_of(context)
    ask(runner, model, [100] * (CONTEXT - 5), max_tokens=5, keep_tokens=0)
    done = done_of(run_checked(runner))
    assert (done.completion_tokens, done.discarded) == (5, 0)


def test_without_a_limit_it_ends_after_ten_contexts(model: Model) -> None:
    request = Intake(model, CONTEXT).request(Submit(id=1, prompt=STORY, sampler=GREEDY, keep_tokens=0))
    assert request.max_tokens == 10 * CONTEXT


def test_too_much_to_keep_is_refused_by_name(model: Model) -> None:
    refused = Intake(model, CONTEXT).read(Submit(id=1, prompt=[100] * 240, sampler=GREEDY, keep_tokens=-1))
    assert isinstance(refused, Failed)
    assert (refused.code, refused.param, refused.hint) == ("invalid-request", "n_keep", "keep at most 192")
    with pytest.raises(InvalidRequest, match="keeps 193 tokens of a context of 256"):
        kept_tokens(193, 1000, CONTEXT)
    with pytest.raises(ContextExceeded):
        kept_tokens(-1, 256, CONTEXT)


def test_a_first_token_that_the_model_wants_always_stays() -> None:
    assert kept_tokens(0, 50, CONTEXT, least=1) == 1
    assert kept_tokens(500, 50, CONTEXT, least=1) == 50


@pytest.mark.parametrize(
    ("tokens", "keep", "excess"),
    [(255, 0, 0), (256, 0, 128), (300, 0, 128), (383, 0, 128), (384, 0, 256), (256, 56, 100), (1000, 56, 800)],
)
def test_halves_go_until_one_more_token_fits(tokens: int, keep: int, excess: int) -> None:
    assert excess_tokens(tokens, keep, CONTEXT) == excess
    assert tokens - excess < CONTEXT
