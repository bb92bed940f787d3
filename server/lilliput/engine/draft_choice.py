"""Whether a draft model pays: how far it is to draft, and for whom it is worth catching up. Pure: seconds are
passed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lilliput.engine.speculation import LEAST_GAIN, StepCosts

DEEPEST_DRAFT = 8
"""Tokens that the draft model says ahead for a sequence, at most: each takes a pass of its own."""

TRIAL_SHARE = 0.02
"""Of all time so much may go into finding out whether a model that did not pay does so now."""

TRIAL_PASSES = 3
"""A trial is one round of so many passes of the draft model beside what the sequence lacks."""

HORIZON_TOKENS = 64
"""An answer is expected to go on for as many tokens as it has, but for so many at least."""

FIRST_CHUNK_TOKENS = 64
"""Tokens that are caught up with in one pass before anything was measured."""

LEAST_CHUNK_TOKENS = 8
"""So that it gets on, however slow the machine is."""

STEP_FACTOR = 1.5
"""As a prompt does, drafting may make a step so many times as long where that is more than the allowed gap."""

_WEIGHT = 0.2
_MOST_KEPT_S = 2.0


@dataclass(frozen=True, slots=True)
class Depth:
    """``tokens`` ahead for the ``sequences`` likeliest to take them; each token then comes ``saved_s`` sooner."""

    sequences: int
    tokens: int
    saved_s: float


class DraftChoice:
    """Weighs passes of the draft model against those of the model itself, whose costs are ``target``'s.

    ``gap_s`` is how long a step may keep running streams waiting, as in ``Pace``.
    """

    def __init__(self, target: StepCosts, gap_s: float) -> None:
        self._target = target
        self._gap_s = gap_s
        self._costs = StepCosts()
        self._measured = False
        self._token_s: float | None = None
        self._kept_s = 0.0
        self._earned_at_s: float | None = None

    def note_draft(self, tokens: int, seconds: float) -> None:
        """A pass of the draft model that said one token more for some sequences took so long."""
        self._measured = True
        self._costs.note(tokens, seconds)

    def note_chunk(self, tokens: int, seconds: float) -> None:
        """A pass of the draft model over so many known tokens took so long."""
        if tokens >= LEAST_CHUNK_TOKENS:
            token_s = seconds / tokens
            known = token_s if self._token_s is None else self._token_s
            self._token_s = known + _WEIGHT * (min(token_s, 3 * known) - known)

    def earn(self, now_s: float) -> None:
        """Time goes by: some of it may be spent on trials."""
        since = now_s if self._earned_at_s is None else self._earned_at_s
        self._kept_s = min(_MOST_KEPT_S, self._kept_s + TRIAL_SHARE * (now_s - since))
        self._earned_at_s = now_s

    def spend(self, seconds: float) -> None:
        """A trial took so long."""
        self._kept_s -= seconds

    def spare_s(self, generating: int) -> float:
        """How long the draft model may compute in one step beside so many generating sequences."""
        step_s = self._target.seconds(generating)
        return max(self._gap_s, STEP_FACTOR * step_s) - step_s

    def chunk_tokens(self, spare_s: float) -> int:
        """Tokens that may be caught up with in so long."""
        if self._token_s is None:
            return FIRST_CHUNK_TOKENS
        return max(LEAST_CHUNK_TOKENS, int(spare_s / self._token_s))

    def best(self, chances: Sequence[float], generating: int, spare_tokens: int) -> Depth | None:
        """How far to draft for the most tokens a second; None where none gain ``LEAST_GAIN``.

        ``chances`` that a drafted token comes, by sequence, falling; ``spare_tokens`` may go along in the pass that
        verifies them.
        """
        plain_s = self._target.seconds(generating)
        plain = generating / plain_s
        most, found = LEAST_GAIN * plain, None
        for tokens in range(1, DEEPEST_DRAFT + 1):
            expected = float(generating)
            for sequences, chance in enumerate(chances[: spare_tokens // tokens], 1):
                expected += sum(chance**at for at in range(1, tokens + 1))
                seconds = self._target.seconds(generating + sequences * tokens) + self._drafting_s(sequences, tokens)
                rate = expected / seconds
                if rate > most:
                    most, found = rate, Depth(sequences, tokens, 1 / plain - 1 / rate)
        return found

    def _drafting_s(self, sequences: int, tokens: int) -> float:
        """Seconds of as many passes as tokens; in the first one most sequences lack their last draft and what was drawn
        behind it.
        """
        if not self._measured:
            return 0.0
        return self._costs.seconds(2 * sequences) + (tokens - 1) * self._costs.seconds(sequences)

    def pays(self, lacking: int, generated: int, left: int, saved_s: float) -> bool:
        """Whether it is worth computing ``lacking`` tokens to save ``saved_s`` with each of those that are to come.

        ``left`` bounds them. Until it was measured, catching up is taken to cost nothing.
        """
        return lacking * (self._token_s or 0.0) <= saved_s * min(left, max(generated, HORIZON_TOKENS))

    def affords(self, lacking: int) -> bool:
        """Whether what was earned allows a trial with a sequence that lacks so many tokens."""
        passes_s = TRIAL_PASSES * self._costs.seconds(1) if self._measured else 0.0
        return self._kept_s > lacking * (self._token_s or 0.0) + passes_s
