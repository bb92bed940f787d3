"""How fast one file runs here with different settings. A child of its own:
``python -m lilliput.llama.tune_probe`` reads one JSON request from standard input and prints JSON lines.

Request: ``{"path", "threads": [2, 1], "batch_threads": [2, 1], "rung": "native", "context_tokens": 4096,
"copies": 2, "seconds": 30}``; the first number of threads is what is used else, and the seconds begin after the load.
Answer: a line for each setting whenever more of it is known; a later line of the same setting replaces the earlier
ones, and the first line is the usual setting's::

    {"flash_attention": true, "threads": 2, "batch_threads": 2, "ubatch_tokens": 512, "repack": true,
     "memory_map": true, "decode_s": [[64, s], [1984, s]], "prompt_token_s": s, "wide_token_s": [[1, s], [4, s]],
     "busy": part}

Seconds of a token behind so many others, of a prompt's token, and of a token where so many sequences generate
together; what the time did not suffice for is missing. ``busy`` is the part of the threads' time in which they ran: far
below 1 others had the cores. Settings of contexts are measured in turn, round after round, so that what else the
machine does falls on all. A load that differs is measured in turns with one like the first, and told at the speed that
the machine had then.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack
from itertools import chain
from typing import TYPE_CHECKING, Any

from lilliput.children import end_with_parent
from lilliput.llama.rungs import RUNGS
from lilliput.llama.tune_values import TUNE_WIDTHS, TuneRequest
from lilliput.llama.values import ModelSettings

if TYPE_CHECKING:
    from lilliput.llama.model import Model
    from lilliput.llama.tune_bed import Bed, Clock, Timed

SHALLOW_TOKENS = 64
SMALL_UBATCH_TOKENS = 128

_SMALL_CONTEXT_TOKENS = 1024

_ROUNDS, _WIDE_ROUNDS, _LOAD_ROUNDS = 5, 3, 20
_PIECES = 3
"""Of a prompt that each of two loads reads."""
_LEAST_PROMPT_TOKENS = 256
"""Shorter pieces would be one small micro-batch or two, and tell nothing."""

_BATCH_WIDTHS = (4, 8)
"""Of sequences together, where other numbers of threads are tried."""

_AT_MOST = 1.5
"""How much of the time may have gone when what has no figure yet is begun."""

_READING = 0.3
"""The share of the time that reading a long prompt may take."""


def measure(request: TuneRequest) -> Iterator[dict[str, Any]]:
    """Run the trials and yield their lines, the usual setting's first."""
    from lilliput.llama.library import start_library
    from lilliput.llama.model import Model
    from lilliput.llama.tune_bed import Clock

    start_library()
    began = time.perf_counter()
    with Model(_settings(request)) as model:
        load_s, clock = time.perf_counter() - began, Clock(request.seconds)
        first = yield from _contexts(model, request, clock)
        if load_s < request.seconds / 4:
            yield from _loads(model, request, first)


def _contexts(model: Model, request: TuneRequest, clock: Clock) -> Generator[dict[str, Any], None, Timed]:
    """What contexts of one load differ in; returns the usual setting's times."""
    with ExitStack() as stack:
        on = _bed(stack, model, request, flash=True)
        off = _bed(stack, model, request, flash=False)
        usual = _timed(on, request)
        plain = _timed(off, request, flash_attention=False)
        fewer = [_timed(on, request, threads=count) for count in request.threads[1:]]
        others = [_timed(on, request, batch_threads=count) for count in request.batch_threads[1:]]
        yield from _shallow(usual, plain, fewer, clock)
        yield from _prompts(stack, model, request, (usual, others), clock)
        yield from _deep(usual, plain, fewer, clock, request.context_tokens)
        yield from _wide(model, (usual, plain, *others), (on, off), clock)
        return usual


def _shallow(usual: Timed, plain: Timed, fewer: list[Timed], clock: Clock) -> Iterator[dict[str, Any]]:
    from lilliput.llama.tune_bed import take_turns

    for trial in (usual, plain):
        trial.read(SHALLOW_TOKENS)
    trials = (usual, plain, *fewer)
    take_turns(trials, SHALLOW_TOKENS, clock, 0.2, _ROUNDS)
    plain.prompt.clear()  # of a shorter piece than those that are compared
    yield from (trial.report() for trial in trials)


def _prompts(
    stack: ExitStack, model: Model, request: TuneRequest, trials: tuple[Timed, list[Timed]], clock: Clock
) -> Iterator[dict[str, Any]]:
    """A piece of a prompt with each number of threads and with a small micro-batch, as long as time allows."""
    from lilliput.llama.tune_bed import Bed, open_context

    usual, others = trials
    tokens = _affordable(usual.prompt[-1], clock.seconds / 10, request.context_tokens // 8)
    usual.prompt.clear()
    usual.read(tokens)
    for trial in others:
        if clock.before(0.5):
            trial.read(tokens)
    if tokens >= _LEAST_PROMPT_TOKENS and clock.before(0.5):
        context = open_context(
            model,
            tokens=_SMALL_CONTEXT_TOKENS,
            sequences=1,
            threads=request.threads[0],
            flash=True,
            ubatch=SMALL_UBATCH_TOKENS,
        )
        small = _timed(Bed(stack.enter_context(context), 1), request, ubatch_tokens=SMALL_UBATCH_TOKENS)
        small.bed.prefill(SHALLOW_TOKENS)
        small.read(tokens)
        yield small.report()
    yield from (trial.report() for trial in (usual, *others))


def _deep(
    usual: Timed, plain: Timed, fewer: list[Timed], clock: Clock, context_tokens: int
) -> Iterator[dict[str, Any]]:
    """Behind as many tokens as time and context allow, where that is much more than few."""
    from lilliput.llama.tune_bed import take_turns

    depth = _affordable(usual.prompt[-1], _READING * clock.seconds / 2, context_tokens // 2)
    depth = max(depth, usual.bed.depths[0])
    if depth < 4 * SHALLOW_TOKENS or not clock.before(0.7):
        return
    for trial in (usual, plain):
        trial.bed.prefill(depth)
    trials = (usual, plain, *fewer)
    take_turns(trials, depth, clock, 0.8, _ROUNDS)
    yield from (trial.report() for trial in trials)


def _wide(model: Model, trials: tuple[Timed, ...], beds: tuple[Bed, Bed], clock: Clock) -> Iterator[dict[str, Any]]:
    """Sequences that generate together: with the tokens read until now in equal parts, where they can be parted."""
    sequences = len(beds[0].depths)
    tokens = min(bed.depths[0] for bed in beds) // sequences
    for bed in beds:
        if model.can_roll_back:
            bed.split(tokens)
        else:
            bed.spread(min(tokens, SHALLOW_TOKENS))
    for width in TUNE_WIDTHS * _WIDE_ROUNDS:
        if not clock.before(1.0 if width in trials[0].wide else _AT_MOST):
            break
        for trial in trials:
            if trial.batch_threads == trials[0].batch_threads or width in _BATCH_WIDTHS:
                trial.generate_together(width)
    yield from (trial.report() for trial in trials)


def _loads(model: Model, request: TuneRequest, first: Timed) -> Iterator[dict[str, Any]]:
    """The same file without repacked weights, and without mapping it where a second copy of them fits: each loaded
    beside the usual ``model`` and measured in turns with it.
    """
    repack = [{"repack": False}] if _repacks(request) else []
    unmapped = [{"memory_map": False}] if request.copies > 1 else []
    for changed in chain(repack, unmapped):
        yield _load(model, request, first, **changed)


def _load(
    usual: Model, request: TuneRequest, first: Timed, *, repack: bool = True, memory_map: bool = True
) -> dict[str, Any]:
    from lilliput.llama.model import Model
    from lilliput.llama.tune_bed import Bed, Clock, open_context, take_turns

    with ExitStack() as stack:
        other = stack.enter_context(Model(_settings(request, repack=repack, memory_map=memory_map)))
        threads = request.threads[0]
        beds = [
            Bed(
                stack.enter_context(
                    open_context(model, tokens=_SMALL_CONTEXT_TOKENS, sequences=1, threads=threads, flash=True)
                ),
                1,
            )
            for model in (usual, other)
        ]
        again = _timed(beds[0], request)
        trial = _timed(beds[1], request, repack=repack and _repacks(request), memory_map=memory_map)
        both, clock = (again, trial), Clock(request.seconds / 6)
        first_s = max(one.read(SHALLOW_TOKENS) for one in both)
        take_turns(both, SHALLOW_TOKENS, clock, 0.6, _LOAD_ROUNDS)
        tokens = _affordable(first_s, clock.seconds / 8, request.context_tokens // 16)
        for one in both:
            one.prompt.clear()
        for count in range(_PIECES):
            if count == 0 or clock.before(1.0):
                for one in both:
                    one.read(tokens)
        return trial.as_of(again, first).report()


def _settings(request: TuneRequest, *, repack: bool = True, memory_map: bool = True) -> ModelSettings:
    rung = request.rung if repack else RUNGS[-1]
    return ModelSettings(request.path, gpu_layers=0, rung=rung, memory_map=memory_map)


def _repacks(request: TuneRequest) -> bool:
    return request.rung != RUNGS[-1]


def _bed(stack: ExitStack, model: Model, request: TuneRequest, *, flash: bool) -> Bed:
    from lilliput.llama.tune_bed import Bed, open_context

    context = open_context(
        model, tokens=request.context_tokens, sequences=TUNE_WIDTHS[-1], threads=request.threads[0], flash=flash
    )
    return Bed(stack.enter_context(context), TUNE_WIDTHS[-1])


def _timed(bed: Bed, request: TuneRequest, **changed: Any) -> Timed:
    """A trial of the usual setting but for what is changed."""
    from lilliput.llama.tune_bed import Timed

    usual: dict[str, Any] = {
        "flash_attention": True,
        "threads": request.threads[0],
        "batch_threads": request.batch_threads[0],
        "repack": _repacks(request),
    }
    return Timed(bed, **{**usual, **changed})


def _affordable(token_s: float, seconds: float, most: int) -> int:
    """How many tokens of a prompt may be read in so many seconds, in whole steps of the shallow depth."""
    return max(SHALLOW_TOKENS, min(most, int(seconds / token_s)) // SHALLOW_TOKENS * SHALLOW_TOKENS)


def read_request(said: Mapping[str, Any]) -> TuneRequest:
    """The request with its defaults; TypeError for an unknown option."""
    numbers = {name: tuple(said[name]) for name in ("threads", "batch_threads")}
    return TuneRequest(**{**said, **numbers})


def main() -> None:
    """Serve one request."""
    end_with_parent()
    os.environ["GGML_NO_BACKTRACE"] = "1"
    for line in measure(read_request(json.load(sys.stdin))):
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
