"""What a tune measures, as plain values, so that other processes can ask for it without the library."""

from __future__ import annotations

from dataclasses import dataclass

from lilliput.llama.rungs import Rung

TUNE_CONTEXTS_TOKENS = (4096, 2048)
"""Contexts that hold all that is measured: half of one for the deeper depth, an eighth for a piece of a prompt."""

TUNE_WIDTHS = (1, 2, 4, 8, 16)
"""Numbers of sequences that generate together."""

TUNE_CONTEXTS = 3
"""Contexts that are open at once, none larger than the first."""


@dataclass(frozen=True, slots=True)
class TuneRequest:
    """What to measure: a file, with these numbers of threads for passes of one token and for all others; the first of
    each is what is used else. ``seconds`` begin after the load.
    """

    path: str
    threads: tuple[int, ...]
    batch_threads: tuple[int, ...]
    rung: Rung = "native"
    context_tokens: int = TUNE_CONTEXTS_TOKENS[0]
    seconds: float = 30.0
