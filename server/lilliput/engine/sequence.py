"""The tokens of one request and how far they have gone through the model."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Sequence:
    """``tokens`` holds the prompt and all that was generated; the first ``decoded`` of them have cells in the KV cache.

    When all have, the next token can be drawn. So prefill, decode and recomputation after a preemption are one thing:
    tokens still to decode. ``slot`` is the sequence id in the KV cache, -1 while waiting. The lower its ``rank``, the
    sooner its turn; one that is not ``urgent`` gives its slot to an urgent one of a lower rank. Those of one ``caller``
    take turns with those of others. One that ``stops_short`` pauses before the last token of its prompt, for others to
    copy all that it has. ``matches`` is what the prefix cache remembers of it while it waits: the version of its tree,
    and by slot how many tokens are in common. ``discarded`` tokens are in ``tokens`` no more, for the context was full.
    """

    id: int
    tokens: list[int]
    prompt_count: int
    slot: int = -1
    decoded: int = 0
    rank: float = 0.0
    urgent: bool = True
    caller: str = ""
    stops_short: bool = False
    discarded: int = 0
    matches: tuple[int, list[tuple[int, int]]] = field(default=(-1, []), repr=False)

    @property
    def remaining(self) -> int:
        """Tokens still to go through the model before the next one can be drawn."""
        return len(self.tokens) - self.decoded

    @property
    def generated(self) -> int:
        """Tokens drawn so far."""
        return len(self.tokens) + self.discarded - self.prompt_count

    def discard(self, start: int, count: int) -> None:
        """Forget ``count`` tokens from ``start`` on; those after them are the next ones to decode."""
        del self.tokens[start : start + count]
        self.discarded += count
        self.decoded = min(self.decoded, start)
        self.matches = (-1, [])
