"""The tokens of one request and how far they have gone through the model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Sequence:
    """``tokens`` holds the prompt and all that was generated; the first ``decoded`` of them have cells in the KV cache.

    When all have, the next token can be drawn. So prefill, decode and recomputation after a preemption are one thing:
    tokens still to decode. ``slot`` is the sequence id in the KV cache, -1 while waiting; ``shared`` counts the cells
    that were copied from another running sequence and so cost nothing. The lower its ``rank``, the sooner its turn.
    """

    id: int
    tokens: list[int]
    prompt_count: int
    slot: int = -1
    decoded: int = 0
    shared: int = 0
    rank: float = 0.0

    @property
    def remaining(self) -> int:
        """Tokens still to go through the model before the next one can be drawn."""
        return len(self.tokens) - self.decoded

    @property
    def generated(self) -> int:
        """Tokens drawn so far."""
        return len(self.tokens) - self.prompt_count
