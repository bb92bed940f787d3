"""Contexts that are measured, and what was timed in each setting of them: the parts of ``tune_probe``."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from lilliput.errors import EngineError
from lilliput.llama.batch import Batch
from lilliput.llama.context import Context, Decoded
from lilliput.llama.model import Model
from lilliput.llama.values import ContextSettings

UBATCH_TOKENS = 512
_PART_S = 0.1
"""What is measured in one setting before the next has its turn: one token at least, six at most."""

_MOST_TOKENS = 6


class Clock:
    """Seconds since the load, and how many are left; a stage may last until its share of them is over."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._began = time.perf_counter()

    def before(self, share: float) -> bool:
        """Whether less than this share of the time has gone."""
        return time.perf_counter() - self._began < share * self.seconds


class Bed:
    """One context with the depths that its sequences have reached. Nothing is rolled back: not every model can."""

    def __init__(self, context: Context, sequences: int) -> None:
        self.context = context
        self.depths = [0] * sequences

    def forward(self, parts: Sequence[tuple[int, int]]) -> float:
        """Seconds of a pass that adds so many tokens to each sequence; EngineError when it fails."""
        batch = Batch(sum(count for _, count in parts))
        for sequence, count in parts:
            start = self.depths[sequence]
            tokens = [(7 * place + sequence) % 97 + 1 for place in range(start, start + count)]
            batch.add(tokens, start, sequence, output_last=True)
            self.depths[sequence] = start + count
        began = time.perf_counter()
        if self.context.decode(batch) is not Decoded.DONE:
            raise EngineError(f"a pass of {len(batch)} tokens did not come to an end")
        return time.perf_counter() - began

    def prefill(self, upto: int) -> float:
        """Bring the first sequence to this depth; seconds a token."""
        count, seconds = upto - self.depths[0], 0.0
        while self.depths[0] < upto:
            seconds += self.forward([(0, min(UBATCH_TOKENS, upto - self.depths[0]))])
        return seconds / max(1, count)

    def split(self, tokens: int) -> None:
        """Make sequences of the first one's cells: each gets so many that no other has."""
        for sequence in range(1, len(self.depths)):
            start = sequence * tokens
            self.context.copy_part(0, sequence, start, start + tokens)
            self.depths[sequence] = start + tokens
        self.context.truncate(0, tokens)
        self.depths[0] = tokens

    def spread(self, tokens: int) -> None:
        """The same with tokens of their own, for models whose sequences cannot be cut."""
        for sequence in range(len(self.depths)):
            self.context.drop(sequence)
            self.depths[sequence] = 0
            self.forward([(sequence, tokens)])


@dataclass(slots=True)
class Timed:
    """One setting, and what was timed in it: seconds of a token behind others by their number, of a prompt's token, of
    a pass over several sequences by their number.
    """

    bed: Bed
    flash_attention: bool
    threads: int
    batch_threads: int
    ubatch_tokens: int = UBATCH_TOKENS
    repack: bool = True
    memory_map: bool = True
    decode: dict[int, list[float]] = field(default_factory=dict)
    prompt: list[float] = field(default_factory=list)
    wide: dict[int, list[float]] = field(default_factory=dict)
    busy: list[float] = field(default_factory=list)

    def read(self, tokens: int) -> float:
        """Time a piece of a prompt; seconds a token."""
        self._begin()
        self.prompt.append(self.bed.forward([(0, tokens)]) / tokens)
        return self.prompt[-1]

    def generate(self, depth: int) -> None:
        """Time some tokens at the depth reached, which is kept under the name of ``depth``."""
        self._begin()
        began, ran = time.perf_counter(), time.process_time()
        times = [self.bed.forward([(0, 1)])]
        times += [self.bed.forward([(0, 1)]) for _ in range(_more(times[0]))]
        self.busy.append((time.process_time() - ran) / ((time.perf_counter() - began) * self.threads))
        self.decode.setdefault(depth, []).append(median(times))

    def generate_together(self, width: int) -> None:
        """Time some passes that generate for so many sequences."""
        self._begin()
        parts = [(sequence, 1) for sequence in range(width)]
        times = [self.bed.forward(parts)]
        times += [self.bed.forward(parts) for _ in range(min(2, _more(times[0])))]
        self.wide.setdefault(width, []).append(median(times))

    def as_of(self, again: Timed, first: Timed) -> Timed:
        """What this would have taken when ``first`` was timed, from turns with the same setting timed ``again``."""
        return replace(
            self,
            decode={
                depth: _as_of(times, again.decode[depth], first.decode[depth]) for depth, times in self.decode.items()
            },
            prompt=_as_of(self.prompt, again.prompt, first.prompt),
        )

    def report(self) -> dict[str, Any]:
        """The line of the answer, as far as it is known."""
        return {
            "flash_attention": self.flash_attention,
            "threads": self.threads,
            "batch_threads": self.batch_threads,
            "ubatch_tokens": self.ubatch_tokens,
            "repack": self.repack,
            "memory_map": self.memory_map,
            "decode_s": [[depth, median(times)] for depth, times in self.decode.items()],
            "prompt_token_s": median(self.prompt) if self.prompt else None,
            "wide_token_s": [[width, median(times) / width] for width, times in sorted(self.wide.items())],
            "busy": round(median(self.busy), 3) if self.busy else None,
        }

    def _begin(self) -> None:
        self.bed.context.set_threads(self.threads, self.batch_threads)


def take_turns(trials: Iterable[Timed], depth: int, clock: Clock, share: float, rounds: int) -> None:
    """Generate in all settings, round after round, so that what else the machine does falls on all."""
    trials = tuple(trials)
    for count in range(rounds):
        if count and not clock.before(share):
            return
        for trial in trials:
            trial.generate(depth)


def open_context(
    model: Model, *, tokens: int, sequences: int, threads: int, flash: bool, ubatch: int = UBATCH_TOKENS
) -> Context:
    """A context like an engine's; EngineLoadFailed when the library cannot make it."""
    return Context(
        model,
        ContextSettings(
            context_tokens=tokens,
            max_sequences=sequences,
            batch_tokens=UBATCH_TOKENS,
            ubatch_tokens=ubatch,
            threads=threads,
            flash_attention=flash,
            output_rows=sequences,
        ),
    )


def _as_of(times: Sequence[float], again: Sequence[float], first: Sequence[float]) -> list[float]:
    """By the median of the ratios within the turns, in which the machine had one speed."""
    ratio = median(own / usual for own, usual in zip(times, again, strict=True))
    return [ratio * median(first)] if first else []


def _more(token_s: float) -> int:
    """How many tokens of this length come after a first one."""
    return max(0, min(_MOST_TOKENS, int(_PART_S / token_s)) - 1)
