"""How long the daemon and the command take to be there."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from tests.support.daemon import DaemonProcess

COUNT = 5


def measure_start(directory: Path, tell: Callable[[str], None]) -> dict[str, float]:
    """Median seconds of ``COUNT`` starts until the daemon is live, with empty data directories, and of ``--help``."""
    starts, helps = [], []
    for number in range(COUNT):
        with DaemonProcess(directory / f"start-{number}") as daemon:
            starts.append(daemon.started_in_s)
    command = [str(Path(sys.executable).parent / "lilliput"), "--help"]
    for _ in range(COUNT):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        helps.append(time.perf_counter() - began)
    found = {"live_s": median(starts), "help_s": median(helps)}
    tell(f"daemon live after {found['live_s']:.2f} s, lilliput --help takes {found['help_s'] * 1000:.0f} ms")
    return found
