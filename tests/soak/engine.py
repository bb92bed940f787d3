"""The randomized soak of the engine: ``python -m tests.soak.engine --minutes 10``.

Prints what happened; the exit status is not 0 when something was wrong.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable

import psutil
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.soak.machine import Bench, EngineMachine, Figures
from tests.support.model import smollm2_path

from lilliput.llama import ModelSettings
from lilliput.llama.library import start_library
from lilliput.llama.model import Model
from lilliput.units import MIB

LONG = settings(
    max_examples=20,
    stateful_step_count=30,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
"""So many runs between two looks at the clock; nothing is tried again in smaller, for that would take hours."""

SHORT = settings(LONG, max_examples=2, stateful_step_count=20)
"""One short round."""

GROWTH_BYTES = 48 * MIB
"""What the process may grow by after its first runs: the interpreter's pools breathe."""


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="tests.soak.engine")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--draft", action="store_true", help="with a draft model, which is the model itself")
    asked = parser.parse_args()
    minutes = asked.minutes
    start_library()
    with Model(ModelSettings(str(smollm2_path()), rung="no-extra-buffers")) as model:
        bench = Bench(model, drafts=asked.draft)
        began = time.monotonic()
        first, last = soak(bench, LONG, lambda: time.monotonic() - began >= minutes * 60)
        bench.close()
    sys.stdout.write(report(bench.figures, time.monotonic() - began, first, last) + "\n")
    if last - first > GROWTH_BYTES:
        raise SystemExit(f"the process has grown by {(last - first) / MIB:.0f} MiB")


def soak(bench: Bench, how: settings, ended: Callable[[], bool]) -> tuple[int, int]:
    """Run until it has ended, at least once; the resident bytes after the first round and after the last one."""
    EngineMachine.bench = bench
    resident: list[int] = []
    while not resident or not ended():
        run_state_machine_as_test(EngineMachine, settings=how)
        gc.collect()
        resident.append(psutil.Process().memory_info().rss)
    return resident[0], resident[-1]


def report(figures: Figures, seconds: float, first_bytes: int, last_bytes: int) -> str:
    """The figures in a few lines."""
    worst = max(figures.ties, key=lambda tie: tie.gap_nats, default=None)
    lines = [
        f"{seconds:.0f} s, {figures.steps} steps, {figures.idle_moments} moments of rest",
        f"{figures.requests} requests: {figures.ended} answered, {figures.cancelled} cancelled, {figures.late} late",
        f"{figures.accepted} drafted tokens accepted",
        f"{figures.slid} answers went on in a full context",
        f"{figures.preemptions} preemptions, {figures.restored} states restored, {figures.cached_tokens} tokens reused",
        f"resident: {first_bytes / MIB:.0f} MiB after the first round, {last_bytes / MIB:.0f} MiB at the end",
        f"{figures.ended - len(figures.ties)} answers as alone, {len(figures.ties)} part at a near tie",
    ]
    return "\n".join([*lines, f"the worst: {worst}"] if worst else lines)


if __name__ == "__main__":
    main()
