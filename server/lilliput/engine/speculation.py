"""How many draft tokens go into the next forward pass: as many as pay for themselves. Pure: seconds are passed in."""

from __future__ import annotations

from bisect import bisect, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from lilliput.engine.drafts import Chances, Drafts

LONGEST_DRAFT = 16
"""Draft tokens of one sequence in one pass, at most."""

WIDEST_STEP = 48
"""Passes with more tokens carry no drafts. llama.cpp's attention on CPUs has another kernel, with other rounding, from
64 tokens on: below, company in a pass changes no logit."""

LEAST_GAIN = 1.03
"""Drafts must promise this many times the tokens a second of a pass without them."""

RETRY_STEPS = 64
"""So often what is known of the costs is put to the test: by a pass with drafts where they would not pay, without where
they would."""

TOKEN_COST = 0.4
"""What a further token costs of a pass of one, until it was measured (two CPU cores, a 135M model: 0.47)."""

_RECENT_STEPS = 32
_RECENT_WEIGHT = 0.15
_OLD_WEIGHT = 0.5


class StepCosts:
    """Seconds of a forward pass by its number of tokens, learned as they pass."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        self._sizes: list[int] = []
        self._seen_at: dict[int, int] = {}
        self._steps = 0

    def note(self, tokens: int, seconds: float) -> None:
        """A pass of so many tokens took so long; a single long one counts as twice what is usual."""
        self._steps += 1
        usual = self._seconds.get(tokens)
        if usual is None:
            self._seconds[tokens] = seconds
            insort(self._sizes, tokens)
        else:
            recent = self._steps - self._seen_at[tokens] <= _RECENT_STEPS
            weight = _RECENT_WEIGHT if recent else _OLD_WEIGHT
            self._seconds[tokens] = usual + weight * (min(seconds, 2 * usual) - usual)
        self._seen_at[tokens] = self._steps

    def knows(self, tokens: int) -> bool:
        """Whether a pass of so many tokens was ever seen."""
        return tokens in self._seconds

    def seconds(self, tokens: int) -> float:
        """What a pass of so many tokens takes: measured, between measured ones, or beyond them by ``TOKEN_COST``.

        At least one pass must have been noted.
        """
        known = self._seconds.get(tokens)
        if known is not None:
            return known
        after = bisect(self._sizes, tokens)
        if 0 < after < len(self._sizes):
            below, above = self._sizes[after - 1], self._sizes[after]
            share = (tokens - below) / (above - below)
            return self._seconds[below] + share * (self._seconds[above] - self._seconds[below])
        near = self._sizes[max(0, after - 1)]
        return self._seconds[near] * supposed_cost(tokens) / supposed_cost(near)


def supposed_cost(tokens: int) -> float:
    """A pass of so many tokens as a multiple of one of a single token, before anything was measured."""
    return 1 + TOKEN_COST * (tokens - 1)


class Proposal(Protocol):
    """What a sequence may say next: repetition tells (``Drafts``), or a draft model."""

    def chances(self, limit: int) -> Iterator[float]:
        """For each of up to ``limit`` proposed tokens the chance that it and all before it come; falling."""
        ...

    def propose(self, count: int) -> tuple[int, ...]:
        """The first ``count`` proposed tokens."""
        ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """A generating sequence that may be drafted for, with up to ``limit`` tokens."""

    id: int
    drafts: Proposal
    limit: int


class Speculator:
    """Takes the draft tokens that most likely come, as long as each makes the tokens of a second more.

    ``most_outputs`` is how many tokens of one pass may have logits.
    """

    def __init__(self, most_outputs: int) -> None:
        self._most_tokens = min(most_outputs, WIDEST_STEP)
        self.costs = StepCosts()
        self.chances = Chances()
        self._until_retry = RETRY_STEPS

    def drafts_of(self, tokens: Sequence[int]) -> Drafts:
        """What follows the tokens of a new sequence."""
        return Drafts(tokens, self.chances)

    def note(self, tokens: int, seconds: float) -> None:
        """A pass of so many tokens, none of them of a prompt, took so long."""
        self.costs.note(tokens, seconds)

    def plan(self, candidates: Sequence[Candidate], generating: int) -> dict[int, tuple[int, ...]]:
        """Draft tokens by sequence id, for a pass in which ``generating`` sequences have one token each."""
        spare = self._most_tokens - generating
        if spare <= 0 or not self.costs.knows(generating):
            return {}
        offers = [
            (chance, at)
            for at, one in enumerate(candidates)
            for chance in one.drafts.chances(min(one.limit, LONGEST_DRAFT))
        ]
        if not offers:
            return {}
        # Chances fall along a draft, and the sort is stable: so the likeliest tokens are beginnings of drafts.
        offers.sort(key=lambda offer: -offer[0])
        chosen = self._best_count([chance for chance, _ in offers[:spare]], generating)
        counts = [0] * len(candidates)
        for _, at in offers[:chosen]:
            counts[at] += 1
        return {one.id: one.drafts.propose(count) for one, count in zip(candidates, counts, strict=True) if count}

    def _best_count(self, chances: Sequence[float], generating: int) -> int:
        costs = self.costs
        measured = _best([costs.seconds(generating + more) for more in range(len(chances) + 1)], chances, generating)
        supposed = _best([supposed_cost(generating + more) for more in range(len(chances) + 1)], chances, generating)
        if not measured and not supposed:
            return 0
        self._until_retry -= 1
        if self._until_retry > 0:
            return measured
        self._until_retry = RETRY_STEPS
        return 0 if measured else supposed


def _best(costs: Sequence[float], chances: Sequence[float], generating: int) -> int:
    """The number of draft tokens with the most tokens for the cost, 0 unless it gains ``LEAST_GAIN``."""
    best, expected = 0, float(generating)
    rate = LEAST_GAIN * expected / costs[0]
    for count, chance in enumerate(chances, 1):
        expected += chance
        if expected / costs[count] > rate:
            best, rate = count, expected / costs[count]
    return best
