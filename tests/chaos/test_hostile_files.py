"""Hundreds of wrong files, each pulled, planned, loaded and asked for answers."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from itertools import islice
from pathlib import Path

from tests.support.daemon import DaemonProcess
from tests.support.footprint import Peaks, footprint
from tests.support.hostile import corpus
from tests.support.hostile.playing import play

from lilliput.units import GIB, MIB

SETTINGS = {"LILLIPUT_THREADS": "1", "LILLIPUT_SLOTS": "2", "LILLIPUT_PREFIX_STORE": "0"}
STRIDE = 2
"""Every other one of the corpus; unit tests read all of it."""

MOST_CHILD_BYTES = 2 * GIB
"""Of a model of 0.3 MB: room for what its header may claim, and no more."""

GROWTH_BYTES = 128 * MIB
"""Of the daemon, which remembers the facts of the last files."""


def test_each_is_an_error_of_its_own_and_the_daemon_lives(tmp_path: Path) -> None:
    began = time.monotonic()
    with DaemonProcess(tmp_path, SETTINGS) as daemon:
        before = footprint(daemon.pid)
        with Peaks(daemon.pid) as peaks:
            fates = asyncio.run(play(daemon.url, tmp_path, islice(corpus(), 0, None, STRIDE)))
        after = footprint(daemon.pid)
        log = daemon.log
    codes = {step: Counter(getattr(fate, step) for fate in fates) for step in ("pulled", "planned", "completed")}
    slowest = max(fates, key=lambda fate: fate.took_s)
    sys.stdout.write(
        f"\n{len(fates)} files in {time.monotonic() - began:.0f} s, the slowest in {slowest.took_s:.1f} s"
        f" ({slowest.name}): {', '.join(f'{step} {dict(found)}' for step, found in codes.items())};"
        f" daemon {before.resident_bytes / MIB:.0f} to {after.resident_bytes / MIB:.0f} MiB, at most"
        f" {peaks.daemon_bytes / MIB:.0f}; a child at most {peaks.child_bytes / MIB:.0f} MiB\n"
    )
    assert len(fates) > 500
    assert [fate.wrong for fate in fates if fate.wrong] == []
    assert "Traceback" not in log
    assert peaks.child_bytes < MOST_CHILD_BYTES
    assert peaks.daemon_bytes < before.resident_bytes + GROWTH_BYTES
    assert after.files <= before.files + 8
