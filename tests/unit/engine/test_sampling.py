"""What sampling asks of the loop: seeds, choices of one prompt, grammars and least lengths."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from lilliput.engine.request import Intake
from lilliput.engine.runner import Runner
from lilliput.engine.scheduler import SchedulerLimits
from lilliput.engine.wire import Done, Event, Failed, Submit, Text
from lilliput.errors import BadGrammar, InvalidRequest
from lilliput.llama import ContextSettings, SamplerSettings
from lilliput.llama.context import Context
from lilliput.llama.model import Model

CONTEXT = 512
PROMPT = "Once upon a time in a small village by the sea there lived an old man who every morning went down to the"
DRAWN = SamplerSettings(temperature=1.3, seed=11)
GREEDY = SamplerSettings(temperature=0)


@pytest.fixture
def runner(model: Model) -> Iterator[Runner]:
    with Context(model, ContextSettings(CONTEXT, 8, batch_tokens=128, threads=2)) as context:
        clock = itertools.count()
        yield Runner(context, SchedulerLimits(4, CONTEXT, 128), 8, lambda: float(next(clock)))


def answer(runner: Runner, intake: Intake, *submissions: Submit) -> list[Event]:
    for submission in submissions:
        runner.submit(intake.request(submission))
    events: list[Event] = []
    while runner.has_work:
        runner.step()
        events += runner.news().events
    return events


def text_of(events: list[Event], number: int = 1) -> str:
    return "".join(event.text for event in events if isinstance(event, Text) and event.id == number)


def done_of(events: list[Event], number: int = 1) -> Done:
    (done,) = [event for event in events if isinstance(event, Done) and event.id == number]
    return done


def test_a_seed_reproduces_a_text_alone_and_another_gives_another(model: Model, runner: Runner) -> None:
    intake = Intake(model, CONTEXT)
    # The first one leaves its prompt in the cache: from the second on all compute the same.
    answer(runner, intake, Submit(1, PROMPT, DRAWN, max_tokens=1))
    mirostat = SamplerSettings(temperature=1.3, seed=11, mirostat=2)
    for settings, other in ((DRAWN, SamplerSettings(temperature=1.3, seed=12)), (mirostat, DRAWN)):
        first, again, different = (
            text_of(answer(runner, intake, Submit(1, PROMPT, one, max_tokens=12)))
            for one in (settings, settings, other)
        )
        assert first == again != different


def test_choices_of_one_prompt_prefill_it_once(model: Model, runner: Runner) -> None:
    choices = [
        Submit(number, PROMPT * 2, SamplerSettings(temperature=1.3, seed=number), max_tokens=6) for number in (1, 2, 3)
    ]
    events = answer(runner, Intake(model, CONTEXT), *choices)
    counts = [done_of(events, number) for number in (1, 2, 3)]
    assert counts[0].cached_tokens == 0
    assert all(done.cached_tokens == done.prompt_tokens - 1 for done in counts[1:])
    assert len({text_of(events, number) for number in (1, 2, 3)}) == 3


def test_min_tokens_holds_off_the_end_and_stop_strings(model: Model, runner: Runner) -> None:
    intake = Intake(model, CONTEXT)
    end = ((model.end_tokens[0], 100.0),)
    wants_to_end = SamplerSettings(temperature=0, logit_bias=end)
    assert done_of(answer(runner, intake, Submit(1, PROMPT, wants_to_end))).completion_tokens == 0
    events = answer(runner, intake, Submit(1, PROMPT, wants_to_end, min_tokens=5))
    assert (done_of(events).completion_tokens, done_of(events).reason) == (5, "stop")
    free = text_of(answer(runner, intake, Submit(1, PROMPT, GREEDY, max_tokens=8)))
    stop = (free[:3],)
    assert text_of(answer(runner, intake, Submit(1, PROMPT, GREEDY, max_tokens=8, stop=stop))) == ""
    assert text_of(answer(runner, intake, Submit(1, PROMPT, GREEDY, max_tokens=8, stop=stop, min_tokens=8))) == free


def test_a_grammar_holds_the_answer_and_its_end(model: Model, runner: Runner) -> None:
    submission = Submit(1, PROMPT, DRAWN, grammar='root ::= ("red" | "blue") " " [0-9]{3}', ignore_eos=True)
    events = answer(runner, Intake(model, CONTEXT), submission, Submit(2, PROMPT, GREEDY, grammar='root ::= "yes"'))
    colour, number = text_of(events).split(" ")
    assert colour in ("red", "blue")
    assert (len(number), number.isdecimal()) == (3, True)
    assert text_of(events, 2) == "yes"
    assert not [event for event in events if isinstance(event, Failed)]


def test_a_bias_by_text_is_one_by_token(model: Model, runner: Runner) -> None:
    intake = Intake(model, CONTEXT)
    events = answer(runner, intake, Submit(1, PROMPT, GREEDY, max_tokens=2, text_bias=((" dog", 100.0),)))
    assert text_of(events) == " dog dog"
    banned = answer(runner, intake, Submit(1, PROMPT, GREEDY, max_tokens=1, text_bias=((" dog", float("-inf")),)))
    assert text_of(banned) == text_of(answer(runner, intake, Submit(1, PROMPT, GREEDY, max_tokens=1)))
    with pytest.raises(InvalidRequest, match="tokens of this model") as several:
        intake.request(Submit(1, PROMPT, GREEDY, text_bias=(("two words", 1.0),)))
    assert several.value.param == "logit_bias"


def test_what_is_wrong_with_a_grammar_reaches_the_client(model: Model) -> None:
    intake = Intake(model, CONTEXT)
    with pytest.raises(BadGrammar, match="line 2"):
        intake.request(Submit(1, PROMPT, GREEDY, grammar='root ::= "a"\nb ::= ('))
    failed = intake.read(Submit(1, PROMPT, GREEDY, text_bias=(("two words", 1.0),)))
    assert isinstance(failed, Failed)
    assert failed.param == "logit_bias"


def test_windows_end_where_the_context_does(model: Model, runner: Runner) -> None:
    huge = SamplerSettings(
        temperature=0, repeat_penalty=1.1, repeat_last_n=2**31 - 1, dry_multiplier=1, dry_penalty_last_n=-1
    )
    assert done_of(answer(runner, Intake(model, CONTEXT), Submit(1, PROMPT, huge, max_tokens=3))).completion_tokens == 3
