"""How long the daemon and the command take to be there, and how soon a client that leaves is gone."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.daemon import DaemonProcess

from bench.judge import Sample
from bench.leave import measure_leaving
from bench.workloads import OURS

COUNT = 5


def measure_start(directory: Path, tell: Callable[[str], None]) -> list[Sample]:
    """Seconds of ``COUNT`` starts until the daemon is live, with empty data directories, of ``--help``, and of leaving
    a stream.
    """
    starts = []
    for number in range(COUNT):
        with DaemonProcess(directory / f"start-{number}") as daemon:
            starts.append(daemon.started_in_s)
            leaves = measure_leaving(daemon, COUNT) if number == COUNT - 1 else []
    found = {"live_s": starts, "help_s": [_help_s() for _ in range(COUNT)], "freed_s": leaves}
    for name, values in found.items():
        tell(f"start: {name} {', '.join(f'{value:.3f}' for value in values)}")
    return [
        Sample("start", OURS, number, {name: values[number] for name, values in found.items()})
        for number in range(COUNT)
    ]


def _help_s() -> float:
    command = [str(Path(sys.executable).parent / "lilliput"), "--help"]
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began
