"""What a tune measures, as plain values, so that other processes can ask for it without the library."""

from __future__ import annotations

from dataclasses import dataclass

from lilliput.llama.rungs import Rung

TUNE_ROOMS = ((4096, 2), (4096, 1), (2048, 1))
"""What is measured with, the best first: tokens of a context, of which half are for the deeper depth and an eighth for
a piece of a prompt; and copies of the weights that fit beside each other.
"""

TUNE_WIDTHS = (1, 2, 4, 8, 16)
"""Numbers of sequences that generate together."""

TUNE_CONTEXTS = 3
"""Contexts that are open at once, none larger than the first."""


@dataclass(frozen=True, slots=True)
class TuneRequest:
    """What to measure: a file, with these numbers of threads for passes of one token and for all others; the first of
    each is what is used else. ``seconds`` begin after the load. ``copies`` of the weights fit into memory.
    """

    path: str
    threads: tuple[int, ...]
    batch_threads: tuple[int, ...]
    rung: Rung = "native"
    context_tokens: int = TUNE_ROOMS[0][0]
    copies: int = TUNE_ROOMS[0][1]
    seconds: float = 30.0
