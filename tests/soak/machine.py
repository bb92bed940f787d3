"""What may happen to a running engine, in any order, and what must hold after every step of it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.soak.answers import Alone, NearTie, Told, hear, parting_of, submission

from lilliput.engine.prefix_store import PrefixStore
from lilliput.engine.request import Intake
from lilliput.engine.runner import Runner
from lilliput.engine.scheduler import SchedulerLimits
from lilliput.engine.wire import Done, Event, Failed
from lilliput.llama import ContextSettings
from lilliput.llama.batch import Batch
from lilliput.llama.context import Context, Decoded
from lilliput.llama.model import Model
from lilliput.units import MIB

CONTEXT_TOKENS = 512
SLOTS = 4
SEQUENCES = 8
STORE_BYTES = 6 * MIB
"""About 270 tokens: some prefixes can be saved, longer ones cannot."""

DRAFT_SETTINGS = ContextSettings(CONTEXT_TOKENS, SEQUENCES, batch_tokens=128, threads=2)
MOST_TOKENS = 24
TICK_S = 0.02
PREFACES = (0, 90, 210)
TAILS = (1, 40, 130)
_STUCK_STEPS = 2 * SEQUENCES


class FaultyContext(Context):
    """A context that can be told to abort passes and to refuse states."""

    aborts_to_come = 0
    refusals_to_come = 0
    restored = 0

    def decode(self, batch: Batch) -> Decoded:
        """As it was aborted at its very end, where that was wanted."""
        outcome = super().decode(batch)
        if outcome is Decoded.DONE and self.aborts_to_come:
            self.aborts_to_come -= 1
            return Decoded.ABORTED
        return outcome

    def restore(self, sequence: int, state: bytes | memoryview) -> bool:
        """Refuses where that was wanted."""
        if self.refusals_to_come:
            self.refusals_to_come -= 1
            return False
        done = super().restore(sequence, state)
        self.restored += done
        return done


@dataclass(slots=True)
class Figures:
    """What happened in all runs."""

    requests: int = 0
    ended: int = 0
    slid: int = 0
    cancelled: int = 0
    late: int = 0
    steps: int = 0
    preemptions: int = 0
    restored: int = 0
    cached_tokens: int = 0
    idle_moments: int = 0
    accepted: int = 0
    ties: list[NearTie] = field(default_factory=list)


class Bench:
    """The model, what all runs share, and the figures; ``drafts``: with the same model as its draft model."""

    def __init__(self, model: Model, *, drafts: bool = False) -> None:
        self.model = model
        self.draft = Context(model, DRAFT_SETTINGS) if drafts else None
        self.context = FaultyContext(model, ContextSettings(CONTEXT_TOKENS, SEQUENCES, batch_tokens=128, threads=2))
        self.alone = Alone(model, CONTEXT_TOKENS, MOST_TOKENS)
        self.intake = Intake(model, CONTEXT_TOKENS)
        self.figures = Figures()
        self.words = model.tokenize(
            "The quick brown fox jumps over the lazy dog, " * 60, add_special=False, parse_special=False
        )

    def prompt(self, preface: int, tail: int, which: int) -> tuple[int, ...]:
        """One of few prompts, so that many begin alike."""
        return (*self.words[: PREFACES[preface]], 100 + which, *self.words[which : which + TAILS[tail]])

    def brimming(self, which: int, beyond: int) -> tuple[int, ...]:
        """A prompt that begins like others and leaves room for 10 tokens in the context, or is longer by ``beyond``."""
        return (
            *self.words[: PREFACES[-1]],
            100 + which,
            *self.words[which : CONTEXT_TOKENS - PREFACES[-1] - 10 + beyond],
        )

    def close(self) -> None:
        """Free the contexts."""
        if self.draft is not None:
            self.draft.close()
        self.alone.close()
        self.context.close()


class EngineMachine(RuleBasedStateMachine):
    """One engine that starts empty."""

    bench: ClassVar[Bench]

    def __init__(self) -> None:
        super().__init__()
        bench = self.bench
        for slot in range(SEQUENCES):
            bench.context.drop(slot)
        bench.context.aborts_to_come = bench.context.refusals_to_come = 0
        ticks = itertools.count()
        self._clock = lambda: next(ticks) * TICK_S
        limits = SchedulerLimits(SLOTS, CONTEXT_TOKENS, 128)
        self._runner = Runner(bench.context, limits, SEQUENCES, self._clock, PrefixStore(STORE_BYTES))
        if bench.draft is not None:
            for slot in range(SEQUENCES):
                bench.draft.drop(slot)
            self._runner.draft_with(bench.draft, DRAFT_SETTINGS)
        self._numbers = itertools.count()
        self._prompts: dict[int, tuple[tuple[int, ...], int | None]] = {}
        self._told: dict[int, Told] = {}
        self._preemptions = 0
        self._restored = bench.context.restored
        self._fruitless_steps = 0

    @initialize(which=st.integers(0, 1))
    def begin(self, which: int) -> None:
        """Never with nothing: two that share a preface, and one that fills most of the cells with them."""
        for preface, tail in ((1, 1), (1, 2), (2, 2)):
            self.submit(preface, tail, which, 1, MOST_TOKENS, True, None)

    @rule(
        preface=st.integers(0, len(PREFACES) - 1),
        tail=st.integers(0, len(TAILS) - 1),
        which=st.integers(0, 1),
        choices=st.sampled_from((1, 1, 1, 2, 4)),
        max_tokens=st.integers(1, MOST_TOKENS),
        urgent=st.booleans(),
        deadline_s=st.sampled_from((None, None, None, 1.0)),
    )
    def submit(
        self,
        preface: int,
        tail: int,
        which: int,
        choices: int,
        max_tokens: int,
        urgent: bool,
        deadline_s: float | None,
    ) -> None:
        """So many choices of one prompt."""
        prompt = self.bench.prompt(preface, tail, which)
        for _ in range(choices):
            self._ask(prompt, max_tokens, urgent=urgent, deadline_s=deadline_s)

    @rule(
        which=st.integers(0, 1),
        beyond=st.sampled_from((0, 0, 5, 300)),
        choices=st.integers(1, 2),
        keep=st.sampled_from((0, 50, 230)),
    )
    def overflow(self, which: int, beyond: int, choices: int, keep: int) -> None:
        """A prompt that fills the context, and answers that go on nevertheless."""
        for _ in range(choices):
            self._ask(self.bench.brimming(which, beyond), MOST_TOKENS, keep)

    def _ask(self, prompt: tuple[int, ...], max_tokens: int, keep: int | None = None, **options: object) -> None:
        number = next(self._numbers)
        message = submission(number, prompt, max_tokens, keep_tokens=keep, **options)
        self._prompts[number], self._told[number] = (prompt, keep), Told()
        self._runner.submit(self.bench.intake.request(message))
        self.bench.figures.requests += 1

    @rule(count=st.integers(1, 25))
    def steps(self, count: int) -> None:
        """Time goes by."""
        for _ in range(count):
            self._step()

    @rule(which=st.integers(0, 20))
    def cancel(self, which: int) -> None:
        """A client leaves."""
        if self._prompts:
            number = sorted(self._prompts)[which % len(self._prompts)]
            self._runner.cancel(number)
            del self._prompts[number]
            self.bench.figures.cancelled += 1

    @rule(count=st.integers(1, 3))
    def abort_passes(self, count: int) -> None:
        """The next passes end early."""
        self.bench.context.aborts_to_come = count

    @rule(count=st.sampled_from((1, 2, 20)))
    def refuse_states(self, count: int) -> None:
        """The next states are not taken back."""
        self.bench.context.refusals_to_come = count

    @rule()
    def come_to_rest(self) -> None:
        """Everything that was asked for is done."""
        for _ in range(5000):
            if not self._runner.has_work:
                break
            self._step()
        assert not self._prompts, f"never answered: {sorted(self._prompts)}"
        news = self._runner.news()
        assert (news.active, news.waiting, news.cells) == (0, 0, news.cached_tokens)
        self.bench.figures.idle_moments += 1

    @invariant()
    def all_is_where_it_should_be(self) -> None:
        """Slots, cells, deadlines."""
        self._runner.check_integrity()
        news = self._runner.news()
        self._hear(news.events)
        assert news.cells <= CONTEXT_TOKENS

    def teardown(self) -> None:
        """Let all end, and add up."""
        self.come_to_rest()
        self.bench.figures.restored += self.bench.context.restored - self._restored

    def _step(self) -> None:
        before = self._totals()
        self._runner.step()
        self._runner.check_integrity()
        self._hear(self._runner.news().events)
        after = self._totals()
        self.bench.figures.steps += 1
        self.bench.figures.preemptions += after[1] - before[1]
        self.bench.figures.cached_tokens += after[2] - before[2]
        self.bench.figures.accepted += after[3] - before[3]
        self._fruitless_steps = 0 if after[0] > before[0] or not self._runner.has_work else self._fruitless_steps + 1
        assert self._fruitless_steps <= _STUCK_STEPS, "work, but no pass"

    def _totals(self) -> tuple[int, int, int, int]:
        counters = self._runner.news().counters
        assert counters is not None
        return counters.steps, counters.preemptions, counters.cached_tokens, counters.accepted_tokens

    def _hear(self, events: list[Event]) -> None:
        hear(events, self._told)
        for event in events:
            if isinstance(event, Failed):
                assert event.code == "deadline-exceeded", event
                del self._prompts[event.id]
                self.bench.figures.late += 1
            elif isinstance(event, Done):
                prompt, keep = self._prompts.pop(event.id)
                assert event.completion_tokens == len(self._told[event.id].reports)
                tie = parting_of(self.bench.alone.answer(prompt, keep, self._clock), self._told[event.id])
                self.bench.figures.slid += event.discarded > 0
                self.bench.figures.ties += [tie] if tie else []
                self.bench.figures.ended += 1
