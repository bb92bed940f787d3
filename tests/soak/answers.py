"""What each prompt is answered alone, and how an answer given in company differs from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from lilliput.engine.request import Intake
from lilliput.engine.runner import Runner
from lilliput.engine.scheduler import SchedulerLimits
from lilliput.engine.wire import Event, Submit, Text, TokenReport
from lilliput.llama import ContextSettings, SamplerSettings
from lilliput.llama.context import Context
from lilliput.llama.model import Model

GREEDY = SamplerSettings(temperature=0)
CANDIDATES = 5
NEAR_TIE_NATS = 0.5
"""llama.cpp's attention on CPUs has one kernel for passes of fewer than 64 tokens and another, with other rounding, for
longer ones: log probabilities of likely tokens move by up to 0.3 with this model.
"""


@dataclass(slots=True)
class Told:
    """The tokens that an answer consists of so far."""

    reports: list[TokenReport] = field(default_factory=list)
    text: str = ""

    def hear(self, event: Text) -> None:
        """More of it."""
        self.reports += event.reports
        self.text += event.text


@dataclass(frozen=True, slots=True)
class NearTie:
    """The first token in which an answer differs: alone, ``instead`` was less likely by ``gap_nats``."""

    at: int
    token: bytes
    instead: bytes
    gap_nats: float


def parting_of(alone: Told, together: Told) -> NearTie | None:
    """None where the shorter answer is the beginning of the other; raises AssertionError where they differ by more than
    rounding explains.
    """
    pairs = enumerate(zip(alone.reports, together.reports, strict=False))
    differing = next(((at, left, right) for at, (left, right) in pairs if left.token != right.token), None)
    if differing is None:
        assert together.text[:20] == alone.text[: len(together.text[:20])]
        return None
    at, left, right = differing
    likely = dict(left.top)
    assert right.token in likely, f"token {at} is {right.token!r}, which was no candidate alone: {likely}"
    tie = NearTie(at, left.token, right.token, likely[left.token] - likely[right.token])
    assert tie.gap_nats < NEAR_TIE_NATS, tie
    return tie


class Alone:
    """Answers of one prompt at a time, each from an empty context; remembered."""

    def __init__(self, model: Model, context_tokens: int, max_tokens: int) -> None:
        self._context = Context(model, ContextSettings(context_tokens, 2, batch_tokens=128, threads=2))
        self._limits = SchedulerLimits(1, context_tokens, 128)
        self._intake = Intake(model, context_tokens)
        self._max_tokens = max_tokens
        self._known: dict[tuple[tuple[int, ...], int | None], Told] = {}

    def answer(self, prompt: tuple[int, ...], keep: int | None, clock: Callable[[], float]) -> Told:
        """The answer, with the likeliest candidates of each token; ``keep`` as in ``Submit.keep_tokens``."""
        if (prompt, keep) not in self._known:
            for slot in range(2):
                self._context.drop(slot)
            runner = Runner(self._context, self._limits, 2, clock)
            message = submission(0, prompt, self._max_tokens, speculation=False, keep_tokens=keep)
            runner.submit(self._intake.request(message))
            told = self._known[prompt, keep] = Told()
            while runner.has_work:
                runner.step()
                hear(runner.news().events, {0: told})
        return self._known[prompt, keep]

    def close(self) -> None:
        """Free the context."""
        self._context.close()


def submission(number: int, prompt: tuple[int, ...], max_tokens: int, **options: object) -> Submit:
    """A greedy request that tells its candidates and never ends by itself."""
    fields = {"ignore_eos": True, "top_logprobs": CANDIDATES} | options
    return Submit(id=number, prompt=list(prompt), sampler=GREEDY, max_tokens=max_tokens, **fields)  # type: ignore[arg-type]


def hear(events: Iterable[Event], answers: dict[int, Told]) -> None:
    """Sort texts to their answers."""
    for event in events:
        if isinstance(event, Text):
            answers[event.id].hear(event)
