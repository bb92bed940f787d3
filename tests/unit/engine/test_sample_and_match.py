"""The runner with a context and samplers of our own: whatever is drafted, the same tokens are drawn in one order."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from lilliput.engine.request import Request
from lilliput.engine.runner import Runner
from lilliput.engine.scheduler import SchedulerLimits
from lilliput.engine.sequence import Sequence
from lilliput.engine.speculation import Candidate, Speculator
from lilliput.engine.text import TextAssembler
from lilliput.engine.wire import Done, Text
from lilliput.llama.context import Decoded

VOCABULARY = "abcdefg"
END_TOKEN = len(VOCABULARY)
CONTEXT = 64


class Model:
    """Seven letters and an end; ``draw`` is a distribution that depends on the last tokens."""

    can_roll_back = True

    def ends_generation(self, token: int) -> bool:
        return token == END_TOKEN

    def piece(self, token: int) -> bytes:
        return VOCABULARY[token].encode()


@dataclass
class FakeContext:
    """Keeps the cells of every sequence and fails where the library would: at a gap, or a position that is taken.

    The first ``refuse_drafts`` passes that carry drafts find no room.
    """

    model: Model = field(default_factory=Model)
    output_rows: int = 16
    cells: dict[int, list[int]] = field(default_factory=dict)
    histories: dict[int, tuple[int, ...]] = field(default_factory=dict)
    refuse_drafts: int = 0
    passes: int = 0

    def decode(self, batch: Any) -> Decoded:
        self.passes += 1
        raw = batch.raw
        sequences = [raw.seq_id[at][0] for at in range(raw.n_tokens) if raw.logits[at]]
        if self.refuse_drafts and len(sequences) > len(set(sequences)):
            self.refuse_drafts -= 1
            return Decoded.NO_ROOM
        self.histories = {}
        for at in range(raw.n_tokens):
            cells = self.cells.setdefault(raw.seq_id[at][0], [])
            assert raw.pos[at] == len(cells), "a position that does not follow the cells"
            assert len(cells) < CONTEXT
            cells.append(raw.token[at])
            if raw.logits[at]:
                self.histories[at] = tuple(cells)
        assert len(self.histories) <= self.output_rows
        return Decoded.DONE

    def truncate(self, slot: int, count: int) -> bool:
        del self.cells[slot][count:]
        return True

    def drop(self, slot: int) -> None:
        self.cells.pop(slot, None)

    def copy_prefix(self, source: int, target: int, count: int) -> None:
        self.cells[target] = self.cells[source][:count]


@dataclass
class FakeSampler:
    """Draws from weights that depend on the whole text before, with one random number a draw."""

    seed: int

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def sample(self, context: FakeContext, index: int) -> int:
        history = context.histories[index]
        weights = [1 + random.Random(hash((history[-3:], token))).random() ** 8 * 50 for token in range(END_TOKEN)]
        weights.append(0.3)
        return self._random.choices(range(END_TOKEN + 1), weights)[0]

    def close(self) -> None:
        pass


class Scripted(Speculator):
    """Drafts whatever it is told to, pass by pass, true or not."""

    def __init__(self, script: Tokens[tuple[int, ...]]) -> None:
        super().__init__(16)
        self._script = itertools.cycle(script)

    def plan(self, candidates: Tokens[Candidate], generating: int) -> dict[int, tuple[int, ...]]:
        spare = 16 - generating
        found = {}
        for one in candidates:
            draft = next(self._script)[: min(max(one.limit, 0), spare)]
            spare -= len(draft)
            if draft:
                found[one.id] = draft
        return found


@dataclass(frozen=True)
class Outcome:
    texts: dict[int, str]
    ends: dict[int, tuple[str, int]]
    drafted: int
    accepted: int


def answers(script: Tokens[tuple[int, ...]] | None, requests: list[Request], context: FakeContext) -> Outcome:
    clock = itertools.count()
    runner = Runner(
        cast(Any, context),
        SchedulerLimits(3, CONTEXT, 32),
        6,
        lambda: float(next(clock)),
        speculator=Scripted(script or [()]),
    )
    for request in requests:
        runner.submit(request)
    texts: dict[int, str] = {}
    ends: dict[int, tuple[str, int]] = {}
    drafted = accepted = 0
    for _ in range(1000):
        if not runner.has_work:
            break
        runner.step()
        step = runner.news()
        drafted += step.drafted
        accepted += step.accepted
        for event in step.events:
            if isinstance(event, Text):
                texts[event.id] = texts.get(event.id, "") + event.text
            elif isinstance(event, Done):
                ends[event.id] = (event.reason, event.completion_tokens)
    assert not runner.has_work
    return Outcome(texts, ends, drafted, accepted)


def request_of(number: int, seed: int, max_tokens: int | None, stop: tuple[str, ...]) -> Request:
    prompt = [number % END_TOKEN, *[(seed + at) % END_TOKEN for at in range(5)]]
    return Request(
        Sequence(number, prompt, len(prompt)), cast(Any, FakeSampler(seed)), TextAssembler(stop), max_tokens, None
    )


drafts = st.lists(st.integers(0, END_TOKEN), max_size=6).map(tuple)


@settings(max_examples=150, deadline=None)
@given(
    script=st.lists(drafts, min_size=1, max_size=8),
    seeds=st.lists(st.integers(0, 10_000), min_size=1, max_size=4),
    max_tokens=st.one_of(st.none(), st.integers(1, 30)),
    stop=st.sampled_from([(), ("ab",), ("c", "dd")]),
    refusals=st.integers(0, 3),
)
def test_whatever_is_drafted_the_same_tokens_are_drawn(
    script: list[tuple[int, ...]], seeds: list[int], max_tokens: int | None, stop: tuple[str, ...], refusals: int
) -> None:
    def requests() -> list[Request]:
        return [request_of(number, seed, max_tokens, stop) for number, seed in enumerate(seeds)]

    # Unified cells are not what this is about: each sequence may fill the context by itself.
    plain = answers(None, requests(), FakeContext())
    refusing = FakeContext(refuse_drafts=refusals if len(seeds) == 1 and any(script) else 0)
    speculated = answers(script, requests(), refusing)
    assert speculated.texts == plain.texts
    assert speculated.ends == plain.ends
    assert speculated.accepted <= speculated.drafted


def test_true_drafts_are_all_accepted_and_save_passes() -> None:
    plain = FakeContext()
    text = answers(None, [request_of(1, 7, 20, ())], plain).texts[1]
    tokens = [VOCABULARY.index(letter) for letter in text]
    # The first token comes with the prompt, then five passes of four drafts and one token drawn behind them.
    script = [tuple(tokens[at : at + 4]) for at in range(1, len(tokens), 5)]
    context = FakeContext()
    outcome = answers(script, [request_of(1, 7, 20, ())], context)
    assert outcome.texts[1] == text
    assert outcome.accepted == outcome.drafted > 0
    assert context.passes < plain.passes / 2
