"""What the passes of an engine add up to: plain numbers that a step changes and the next frame carries along."""

from __future__ import annotations

from bisect import bisect_left

import msgspec

GAP_BOUNDS_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the intervals in which times between two tokens are counted; one more holds the longer ones."""


class Counters(msgspec.Struct, array_like=True):
    """Totals since the engine was loaded; times in seconds.

    ``decode_tokens`` went through for sequences that were generating, one a sequence and pass, ``prefill_tokens`` are
    all others but drafts: prompts, and what is computed again after a preemption. ``cached_tokens`` of admitted prompts
    needed no pass. ``gaps`` counts, by GAP_BOUNDS_S, how long a running sequence waited for its next token, ``gap_s``
    is the sum; tokens that were accepted drafts waited for nothing and are not among them. ``widest_tokens`` is the
    largest pass. States are prefixes as they leave the KV cache and come back; those kept now take ``store_bytes``.
    """

    steps: int = 0
    step_s: float = 0.0
    prefill_tokens: int = 0
    decode_tokens: int = 0
    cached_tokens: int = 0
    preemptions: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    gap_s: float = 0.0
    gaps: list[int] = msgspec.field(default_factory=lambda: [0] * (len(GAP_BOUNDS_S) + 1))
    widest_tokens: int = 0
    saved_states: int = 0
    restored_states: int = 0
    store_bytes: int = 0


class StepCounter:
    """Adds each pass to ``totals``."""

    def __init__(self) -> None:
        self.totals = Counters()
        self._last_at_s = 0.0

    def count(self, decoded: int, prefilled: int, began_s: float, ended_s: float) -> None:
        """Add a pass with one token of each of ``decoded`` sequences that generate, and ``prefilled`` other tokens."""
        totals = self.totals
        totals.steps += 1
        totals.step_s += ended_s - began_s
        totals.decode_tokens += decoded
        totals.prefill_tokens += prefilled
        totals.widest_tokens = max(totals.widest_tokens, decoded + prefilled)
        if decoded:
            gap_s = ended_s - self._last_at_s
            totals.gap_s += gap_s * decoded
            totals.gaps[bisect_left(GAP_BOUNDS_S, gap_s)] += decoded
        self._last_at_s = ended_s
