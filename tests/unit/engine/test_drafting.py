"""Drafts with the real model: what is told stays the same, and fewer passes tell it."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from lilliput.engine.request import Intake
from lilliput.engine.runner import Runner
from lilliput.engine.scheduler import SchedulerLimits
from lilliput.engine.speculation import Candidate, Speculator
from lilliput.engine.wire import Done, Submit, Text, TokenReport
from lilliput.llama import ContextSettings, SamplerSettings
from lilliput.llama.context import Context
from lilliput.llama.model import Model

CONTEXT = 1024
ROWS = 16
GREEDY = SamplerSettings(temperature=0)
NEAR_TIE_NATS = 0.5
"""As for streams in company: a pass of another width may compute with another kernel, with other rounding."""

STORY = (
    "The old lighthouse keeper walked along the shore every morning. He counted the boats in the harbour, wrote their "
    "names into a small brown book, and then climbed the ninety-three steps to the lamp."
)
TABLE = "name,age,city\nAnna,31,Berlin\nBela,45,Budapest\nCarla,28,Rome\nDavid,52,Madrid\n"
PROMPTS = (
    f"{STORY}\n\nOnce more, word for word:\n\n{STORY[:60]}",
    f"{TABLE}\nThe same table again:\n\n{TABLE[:25]}",
    "def add(a, b):\n    return a + b\n\ndef sub(a, b):\n    return a - b\n\ndef mul(a, b):\n    return",
    "one two three four one two three four one two three",
    "Why is the sky blue?",
    "<|im_start|>user\nSay only: hi<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\nRepeat: red green blue<|im_end|>\n<|im_start|>assistant\n",
    "x",
)


class Forced(Speculator):
    """Drafts up to ``count`` tokens wherever there is a match, and nonsense where there is none."""

    def __init__(self, count: int, nonsense: int | None = None) -> None:
        super().__init__(ROWS)
        self._count = count
        self._nonsense = nonsense

    def plan(self, candidates: Sequence[Candidate], generating: int) -> dict[int, tuple[int, ...]]:
        spare = ROWS - generating
        found = {}
        for one in candidates:
            count = max(0, min(self._count, one.limit, spare))
            draft = one.drafts.propose(count) or (() if self._nonsense is None else (self._nonsense,) * count)
            if draft:
                spare -= len(draft)
                found[one.id] = draft
        return found


@dataclass
class Answer:
    text: str
    reports: list[TokenReport]
    done: Done


@pytest.fixture
def contexts(model: Model) -> Iterator[tuple[Context, Context]]:
    """Two, so that neither reuses what the other has computed."""
    settings = ContextSettings(CONTEXT, ROWS, batch_tokens=128, threads=1, output_rows=ROWS)
    with ExitStack() as stack:
        yield stack.enter_context(Context(model, settings)), stack.enter_context(Context(model, settings))


def answers(
    context: Context, submits: Sequence[Submit], speculator: Speculator | None = None, slots: int = 1
) -> dict[int, Answer]:
    for slot in range(ROWS):
        context.drop(slot)
    clock = itertools.count()
    runner = Runner(context, SchedulerLimits(slots, CONTEXT, 128), ROWS, clock.__next__, speculator=speculator)
    intake = Intake(context.model, CONTEXT)
    for submit in submits:
        runner.submit(intake.request(submit))
    found: dict[int, Answer] = {}
    texts: Counter[int] = Counter()
    pieces: dict[int, list[Text]] = {submit.id: [] for submit in submits}
    while runner.has_work:
        runner.step()
        for event in runner.news().events:
            if isinstance(event, Text):
                pieces[event.id].append(event)
                texts[event.id] += 1
            elif isinstance(event, Done):
                told = pieces[event.id]
                reports = [report for one in told for report in one.reports]
                found[event.id] = Answer("".join(one.text for one in told), reports, event)
    return found


def ask(number: int, prompt: str, **options: object) -> Submit:
    fields = {"sampler": GREEDY, "max_tokens": 48, "top_logprobs": 5} | options
    return Submit(id=number, prompt=prompt, **fields)  # type: ignore[arg-type]


def assert_same(plain: Answer, other: Answer) -> None:
    """Equal, or parted at a token that was about as likely."""
    pairs = enumerate(zip(plain.reports, other.reports, strict=False))
    at = next((at for at, (left, right) in pairs if left.token != right.token), None)
    if at is None:
        assert other.text == plain.text
        assert (other.done.reason, other.done.completion_tokens) == (plain.done.reason, plain.done.completion_tokens)
        return
    likely = dict(plain.reports[at].top)
    taken = other.reports[at].token
    assert taken in likely, f"{taken!r} was no candidate: {likely}"
    assert 0 <= likely[plain.reports[at].token] - likely[taken] < NEAR_TIE_NATS


@pytest.mark.parametrize("slots", [1, 3])
def test_at_temperature_0_drafts_change_no_text_and_no_logprob(contexts: tuple[Context, Context], slots: int) -> None:
    submits = [ask(number, prompt) for number, prompt in enumerate(PROMPTS)]
    plain = answers(contexts[0], [ask(n, prompt, speculation=False) for n, prompt in enumerate(PROMPTS)], slots=slots)
    drafted = answers(contexts[1], submits, Forced(4), slots=slots)
    assert sum(one.done.drafted for one in plain.values()) == 0
    assert sum(one.done.accepted for one in drafted.values()) > 40
    for number in range(len(PROMPTS)):
        assert_same(plain[number], drafted[number])
    equal = [number for number in range(len(PROMPTS)) if plain[number].text == drafted[number].text]
    assert len(equal) >= len(PROMPTS) // 2, "on a processor whose kernels round differently by width"
    for number in equal:
        for left, right in zip(plain[number].reports, drafted[number].reports, strict=True):
            assert right.logprob == pytest.approx(left.logprob, abs=NEAR_TIE_NATS)


def test_drafts_of_nonsense_change_nothing_and_are_all_refused(contexts: tuple[Context, Context]) -> None:
    plain = answers(contexts[0], [ask(1, PROMPTS[4], ignore_eos=True, speculation=False)])[1]
    (nonsense,) = contexts[0].model.tokenize("\x07", add_special=False, parse_special=False)[:1]
    other = answers(contexts[1], [ask(1, PROMPTS[4], ignore_eos=True)], Forced(3, nonsense))[1]
    assert other.done.drafted > 100
    assert other.done.accepted < other.done.drafted / 2
    assert_same(plain, other)


def test_ends_within_drafts_are_those_without_them(contexts: tuple[Context, Context]) -> None:
    """A limit of tokens, a stop string and the model's own end, each met in the middle of a draft."""
    whole = answers(contexts[0], [ask(0, PROMPTS[0], speculation=False)])[0].text
    stop = whole[len(whole) // 2 : len(whole) // 2 + 4]
    variants: dict[int, dict[str, object]] = {number: {"max_tokens": number} for number in (1, 2, 3, 9, 10, 11)}
    variants |= {20: {"stop": (stop,)}, 21: {"stop": (whole[-9:-6], "zzz")}}
    for number, options in variants.items():
        plain = answers(contexts[0], [ask(number, PROMPTS[0], speculation=False, **options)])[number]
        other = answers(contexts[1], [ask(number, PROMPTS[0], **options)], Forced(5))[number]
        assert (other.text, other.done.reason) == (plain.text, plain.done.reason)
        assert other.done.completion_tokens == plain.done.completion_tokens
        assert len(other.reports) == len(plain.reports)
    ending = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nhi there<|im_end|>\n" * 3
    ending += "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nhi"
    plain = answers(contexts[0], [ask(30, ending, speculation=False)])[30]
    other = answers(contexts[1], [ask(30, ending)], Forced(6))[30]
    assert (other.text, other.done.reason) == (plain.text, plain.done.reason) == (" there", "stop")


def test_an_answer_with_drafts_ends_where_the_context_ends(contexts: tuple[Context, Context]) -> None:
    long = ask(1, "a b c d " * (CONTEXT // 4 - 10), max_tokens=None, ignore_eos=True)
    done = answers(contexts[0], [long], Forced(7))[1].done
    assert (done.reason, done.prompt_tokens + done.completion_tokens) == ("length", CONTEXT)
    assert done.accepted > 0


def test_what_is_kept_after_drafts_is_reused_by_the_next_turn(contexts: tuple[Context, Context]) -> None:
    context = contexts[0]
    clock = itertools.count()
    runner = Runner(context, SchedulerLimits(1, CONTEXT, 128), ROWS, clock.__next__, speculator=Forced(6))
    intake = Intake(context.model, CONTEXT)
    told = ""
    dones: list[Done] = []
    for turn in range(3):
        prompt = PROMPTS[0] + told
        runner.submit(intake.request(ask(turn, prompt, max_tokens=11)))
        while runner.has_work:
            runner.step()
            for event in runner.news().events:
                if isinstance(event, Text):
                    told += event.text
                elif isinstance(event, Done):
                    dones.append(event)
    assert all(done.cached_tokens > done.prompt_tokens - 6 for done in dones[1:])
    plain = answers(contexts[1], [ask(1, PROMPTS[0], max_tokens=33, speculation=False)])[1]
    assert told == plain.text


def test_a_copy_takes_far_fewer_passes_where_passes_cost_the_same(contexts: tuple[Context, Context]) -> None:
    """The clock of these runs gives every pass the same time: then drafts always pay."""
    passes = []
    for context, wanted in zip(contexts, (False, True), strict=True):
        clock = itertools.count()
        runner = Runner(context, SchedulerLimits(1, CONTEXT, 128), ROWS, clock.__next__)
        runner.submit(Intake(context.model, CONTEXT).request(ask(1, PROMPTS[1], speculation=wanted, top_logprobs=None)))
        count = 0
        while runner.has_work:
            runner.step()
            count += 1
        passes.append(count)
    assert passes[1] < passes[0] / 2


SEEDS = 150
TOKENS = 4


def outcomes(context: Context, first_seed: int, speculator: Speculator | None) -> Counter[str]:
    seeds = range(first_seed, first_seed + SEEDS)
    sampler = [SamplerSettings(temperature=1.0, top_k=3, top_p=1.0, min_p=0.0, seed=seed) for seed in seeds]
    prompt = "red, green, blue; red, green, blue; red, green, red; red, green"
    submits = [
        ask(n, prompt, sampler=one, max_tokens=TOKENS, top_logprobs=None, speculation=speculator is not None)
        for n, one in enumerate(sampler)
    ]
    found = answers(context, submits, speculator, slots=4)
    if speculator is not None:
        drafted = sum(one.done.drafted for one in found.values())
        accepted = sum(one.done.accepted for one in found.values())
        assert 0.1 < accepted / drafted < 0.95
    return Counter(one.text for one in found.values())


def chi_square(left: Counter[str], right: Counter[str]) -> tuple[float, int]:
    """Of two samples of equal size, texts seen fewer than ten times in both together taken as one; and the degrees of
    freedom.
    """
    rare = [text for text in left | right if left[text] + right[text] < 10]
    groups = [(left[text], right[text]) for text in left | right if text not in rare]
    groups.append((sum(left[text] for text in rare), sum(right[text] for text in rare)))
    statistic = sum((one - other) ** 2 / (one + other) for one, other in groups if one + other)
    return statistic, len(groups) - 1


def critical(freedom: int) -> float:
    """The chi-square value that 1 in 1000 samples exceeds (Wilson and Hilferty's approximation)."""
    share = 2 / (9 * freedom)
    return freedom * (1 - share + 3.09 * math.sqrt(share)) ** 3


def test_at_temperature_1_drafts_do_not_change_how_often_texts_come(contexts: tuple[Context, Context]) -> None:
    plain = outcomes(contexts[0], 0, None)
    drafted = outcomes(contexts[1], 10_000, Forced(3))
    statistic, freedom = chi_square(plain, drafted)
    assert freedom >= 3
    assert statistic < critical(freedom)


def test_the_same_seed_draws_the_same_text_with_drafts(contexts: tuple[Context, Context]) -> None:
    sampler = SamplerSettings(temperature=1.0, seed=5)
    plain = answers(contexts[0], [ask(1, PROMPTS[1], sampler=sampler, max_tokens=24, speculation=False)])[1]
    other = answers(contexts[1], [ask(1, PROMPTS[1], sampler=sampler, max_tokens=24)], Forced(4))[1]
    assert other.done.accepted > 0
    assert other.text == plain.text


def test_a_schema_holds_with_drafts(contexts: tuple[Context, Context]) -> None:
    schema = (
        '{"type":"array","items":{"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer"}},'
        '"required":["name","age"],"additionalProperties":false},"minItems":3,"maxItems":3}'
    )
    plain = answers(contexts[0], [ask(1, TABLE, schema=schema, max_tokens=64, speculation=False)])[1]
    other = answers(contexts[1], [ask(1, TABLE, schema=schema, max_tokens=64)], Forced(4))[1]
    assert other.done.accepted > 0
    assert_same(plain, other)
