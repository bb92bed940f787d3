"""How fast one file runs here with different settings of its context. A child of its own:
``python -m lilliput.llama.tune_probe`` reads one JSON request from standard input and prints JSON lines.

Request: ``{"path", "rung": "native", "gpu_layers": 0, "threads": [2, 1], "seconds": 10}``; the first number of
threads is what is used else. Answer: a line for each setting measured, the usual one first:
``{"flash_attention": bool, "threads": n, "ubatch_tokens": n, "decode_s": {"64": s, "512": s}, "prompt_token_s": s,
"wide_token_s": s, "busy": part}`` with seconds of a token behind so many others, of a prompt's token, and of a token
where four sequences generate together (of the first two settings); nulls where the time did not suffice. ``busy`` is
the part of the threads' time in which they ran: far below 1 others had the cores. All settings are measured in turn,
round after round, so that what else the machine does falls on all.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from lilliput.llama.rungs import Rung
from lilliput.llama.values import ContextSettings, ModelSettings

if TYPE_CHECKING:
    from lilliput.llama.context import Context
    from lilliput.llama.model import Model

DEPTHS = (64, 512)
SMALL_UBATCH_TOKENS, UBATCH_TOKENS = 128, 512
WIDTH = 4
"""Sequences that generate together, to see what a setting costs then."""

_CONTEXT_TOKENS = 1024
_ROUNDS, _TOKENS = 5, 6


@dataclass(frozen=True, slots=True)
class TuneRequest:
    """What to measure; see the module's text."""

    path: str
    threads: tuple[int, ...]
    rung: Rung = "native"
    gpu_layers: int = 0
    seconds: float = 10.0


@dataclass(slots=True)
class _Trial:
    """One context with its settings, and what was timed of it."""

    context: Context
    flash_attention: bool
    threads: int
    ubatch_tokens: int
    decode: dict[int, list[float]] = field(default_factory=dict)
    prompt: list[float] = field(default_factory=list)
    wide: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    depth: int = 0

    def prefill(self, upto: int) -> None:
        """Bring the context to this depth, timed."""
        seconds = self._forward(self.depth, upto - self.depth)
        self.prompt.append(seconds / (upto - self.depth))
        self.depth = upto

    def round(self) -> None:
        """Time some tokens at the depth reached."""
        began, ran = time.perf_counter(), time.process_time()
        times = [self._forward(self.depth + count, 1) for count in range(_TOKENS)]
        self.busy.append((time.process_time() - ran) / ((time.perf_counter() - began) * self.threads))
        self.decode.setdefault(self.depth, []).append(median(times))
        self.context.truncate(0, self.depth)

    def widen(self) -> None:
        """Put prompts of the same depth beside the first sequence."""
        for sequence in range(1, WIDTH):
            self._decode([(sequence, 0, self.depth)])

    def wide_round(self) -> None:
        """Time passes that generate for all sequences."""
        tokens = [(sequence, self.depth, 1) for sequence in range(WIDTH)]
        times = []
        for _ in range(_TOKENS):
            times.append(self._decode(tokens))
            for sequence in range(WIDTH):
                self.context.truncate(sequence, self.depth)
        self.wide.append(median(times))

    def narrow(self) -> None:
        """Leave the first sequence only."""
        for sequence in range(1, WIDTH):
            self.context.drop(sequence)

    def report(self) -> dict[str, Any]:
        """The line of the answer."""
        return {
            "flash_attention": self.flash_attention,
            "threads": self.threads,
            "ubatch_tokens": self.ubatch_tokens,
            "decode_s": {str(depth): median(self.decode[depth]) if depth in self.decode else None for depth in DEPTHS},
            "prompt_token_s": self.prompt[-1] if self.prompt else None,
            "wide_token_s": median(self.wide) / WIDTH if self.wide else None,
            "busy": round(median(self.busy), 3),
        }

    def _forward(self, position: int, count: int) -> float:
        return self._decode([(0, position, count)])

    def _decode(self, parts: list[tuple[int, int, int]]) -> float:
        """Seconds of a pass over parts of sequences: which, from where, how many tokens."""
        from lilliput.llama.batch import Batch

        batch = Batch(sum(count for _, _, count in parts))
        for sequence, position, count in parts:
            tokens = [(7 * place + sequence) % 97 + 1 for place in range(position, position + count)]
            batch.add(tokens, position, sequence, output_last=True)
        began = time.perf_counter()
        self.context.decode(batch)
        return time.perf_counter() - began


def measure(request: TuneRequest) -> Iterator[dict[str, Any]]:
    """Run the trials and yield their lines, the baseline's first."""
    from lilliput.llama.library import start_library
    from lilliput.llama.model import Model

    began = time.perf_counter()
    start_library()
    settings = ModelSettings(request.path, gpu_layers=request.gpu_layers, rung=request.rung)
    with ExitStack() as stack:
        model = stack.enter_context(Model(settings))
        trials = _trials(stack, model, request)
        for depth in DEPTHS:
            for trial in trials:
                trial.prefill(depth)
            for _ in range(_ROUNDS):
                for trial in trials:
                    trial.round()
            if depth == DEPTHS[0]:
                _compare_wide(trials[:2])
            if time.perf_counter() - began > request.seconds / 2:
                break  # a large model or a slow machine: what is known at the first depth has to do
        for trial in trials:
            yield trial.report()


def _compare_wide(trials: list[_Trial]) -> None:
    """With and without flash attention: without it, every sequence pays for the cells of the others, too."""
    for trial in trials:
        trial.widen()
    for _ in range(_ROUNDS):
        for trial in trials:
            trial.wide_round()
    for trial in trials:
        trial.narrow()


def _trials(stack: ExitStack, model: Model, request: TuneRequest) -> list[_Trial]:
    """The baseline (flash attention, all threads, the usual micro-batch), and what differs from it in one thing."""
    usual = request.threads[0]
    plans = [(True, usual, UBATCH_TOKENS), (False, usual, UBATCH_TOKENS), (True, usual, SMALL_UBATCH_TOKENS)]
    plans += [(True, count, UBATCH_TOKENS) for count in request.threads[1:]]
    return [_trial(stack, model, flash, threads, ubatch) for flash, threads, ubatch in plans]


def _trial(stack: ExitStack, model: Model, flash: bool, threads: int, ubatch: int) -> _Trial:
    from lilliput.llama.context import Context

    limits = ContextSettings(
        _CONTEXT_TOKENS, WIDTH, UBATCH_TOKENS, ubatch, threads, flash_attention=flash, output_rows=WIDTH
    )
    return _Trial(stack.enter_context(Context(model, limits)), flash, threads, ubatch)


def read_request(said: Mapping[str, Any]) -> TuneRequest:
    """The request with its defaults; TypeError for an unknown option."""
    return TuneRequest(**{**said, "threads": tuple(said["threads"])})


def main() -> None:
    """Serve one request."""
    os.environ["GGML_NO_BACKTRACE"] = "1"
    for line in measure(read_request(json.load(sys.stdin))):
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
