"""Shows how far a long build is, from the step counters that ninja prints. Standard library only."""

from __future__ import annotations

import re
import sys
import time
from typing import TextIO

_STEP = re.compile(r"^\s*\[(\d+)/(\d+)\]")


class BuildProgress:
    """Turns a build's output lines into one moving line on a terminal, or a line every 30 s elsewhere."""

    def __init__(self, out: TextIO = sys.stdout, *, started_s: float | None = None, every_s: float = 30) -> None:
        self._out = out
        self._started_s = time.monotonic() if started_s is None else started_s
        self._terminal = out.isatty()
        self._every_s = 0.5 if self._terminal else every_s
        self._shown_s = self._started_s
        self._step = (0, 0)

    def feed(self, line: str, *, now_s: float | None = None) -> None:
        """Take one line of output; shows the state when it is time to."""
        now_s = time.monotonic() if now_s is None else now_s
        if found := _STEP.match(line):
            self._step = (int(found[1]), int(found[2]))
        if now_s - self._shown_s >= self._every_s:
            self._shown_s = now_s
            self._show(self.describe(now_s))

    def describe(self, now_s: float) -> str:
        """Return the state in words: steps done, percent, and the time passed."""
        passed = f"{_clock(now_s - self._started_s)} passed"
        done, total = self._step
        if not total:
            return f"configuring, {passed}"
        return f"step {done} of {total} ({100 * done // total} %), {passed}"

    def close(self) -> None:
        """End the moving line."""
        if self._terminal:
            self._out.write("\r\x1b[K")
            self._out.flush()

    def _show(self, text: str) -> None:
        self._out.write(f"\r\x1b[K  {text}" if self._terminal else f"  {text}\n")
        self._out.flush()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"
