"""The daemon's streaming with an engine that costs nothing, measured before any other server is started."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path

from bench.judge import Sample
from bench.workloads import OURS

NAME = "tests.bench.null_engine"
STREAMS, TOKENS, QUICK_TOKENS = 64, 10_000, 200


def measure_null(directory: Path, rounds: int, tell: Callable[[str], None], *, quick: bool) -> list[Sample]:
    """Chunks a second of ``rounds`` daemons with 64 open streams; none where that engine is not in the checkout."""
    if importlib.util.find_spec(NAME) is None:
        tell(f"null engine: {NAME} is not there")
        return []
    measure = importlib.import_module(NAME).measure
    samples = []
    for number in range(rounds):
        found = measure(directory / f"null-{number}", STREAMS, QUICK_TOKENS if quick else TOKENS)
        figures = {"chunks_s": float(found.chunks_s), "chunk_cpu_us": float(found.chunk_cpu_us)}
        figures |= {"tail_health_s": float(found.tail_health_s), "worst_health_s": float(found.worst_health_s)}
        samples.append(Sample("null", OURS, number, figures))
        health = f"99 % within {figures['tail_health_s']:.3f} s, all within {figures['worst_health_s']:.3f} s"
        tell(f"null {number + 1}. {figures['chunks_s']:,.0f} chunks/s; health: {health}")
    return samples
