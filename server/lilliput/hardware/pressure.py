"""How hard this machine works to find memory: stalls that the kernel counts, what is available, what comes from swap.

Read once a second by whoever watches, so a reading takes less than half a millisecond and starts no process.
"""

from __future__ import annotations

import mmap
import platform
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from lilliput.hardware.cgroups import find_memory_groups
from lilliput.hardware.memory import Memory, read_memory
from lilliput.hardware.sysctl import sysctl_number
from lilliput.hardware.text import read_text

Level = Literal["normal", "warning", "critical"]

_MAC_LEVELS: dict[int, Level] = {1: "normal", 2: "warning", 4: "critical"}
"""``kern.memorystatus_vm_pressure_level``: the ``DISPATCH_MEMORYPRESSURE_*`` of dispatch/source.h."""

_STALLS = re.compile(r"^(some|full) avg10=(\d+\.\d+) avg60=(\d+\.\d+) avg300=\S+ total=(\d+)$", re.MULTILINE | re.ASCII)
_SWAPPED = re.compile(r"^pswp(in|out) (\d+)$", re.MULTILINE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Stalls:
    """Shares of time, in per cent, in which work stood still for want of memory: some of it, or all at once (``full``).

    The means are those of the last 10 and 60 seconds, the totals are seconds since the machine or the group began.
    Source: Documentation/accounting/psi.rst of Linux.
    """

    some_avg10: float
    some_avg60: float
    some_total_s: float
    full_avg10: float
    full_avg60: float
    full_total_s: float


@dataclass(frozen=True, slots=True)
class Pressure:
    """One reading; what the system does not tell is None.

    ``system`` and ``group`` are the kernel's stalls of the machine and of this process's control group (Linux),
    ``level`` is macOS' own word. ``swapped_in_bytes`` and ``swapped_out_bytes`` only grow. ``at_s`` is on the monotonic
    clock.
    """

    at_s: float
    memory: Memory
    system: Stalls | None = None
    group: Stalls | None = None
    level: Level | None = None
    swapped_in_bytes: int | None = None
    swapped_out_bytes: int | None = None

    @property
    def worst(self) -> Stalls | None:
        """The stalls of the group or of the machine, whichever stands still for longer now; None without any."""
        known = [stalls for stalls in (self.group, self.system) if stalls is not None]
        return max(known, key=lambda stalls: (stalls.full_avg10, stalls.some_avg10), default=None)

    def swapped_in_since(self, before: Pressure) -> float | None:
        """Bytes a second that came back from swap since ``before``; None where that is not counted."""
        if self.swapped_in_bytes is None or before.swapped_in_bytes is None or self.at_s <= before.at_s:
            return None
        return max(0, self.swapped_in_bytes - before.swapped_in_bytes) / (self.at_s - before.at_s)


class PressureReader:
    """Reads the machine whose ``/proc`` and ``/sys`` lie under ``root``; psutil and sysctl where those do not exist."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._groups = find_memory_groups(root)
        self._own = self._groups.pressure_file
        self._system = root / "proc/pressure/memory"
        self._vmstat = root / "proc/vmstat"

    def read(self) -> Pressure:
        """The pressure now."""
        swapped = _swapped(self._vmstat)
        return Pressure(
            at_s=time.monotonic(),
            memory=read_memory(self._root, self._groups),
            system=_stalls(self._system),
            group=None if self._own is None else _stalls(self._own),
            level=_MAC_LEVELS.get(sysctl_number("kern.memorystatus_vm_pressure_level") or 0),
            swapped_in_bytes=None if swapped is None else swapped[0],
            swapped_out_bytes=None if swapped is None else swapped[1],
        )


def _stalls(path: Path) -> Stalls | None:
    """The two lines of a pressure file; a kernel without pressure accounting has no file, or refuses to read it."""
    text = read_text(path)
    if text is None:
        return None
    found = {kind: (float(ten), float(sixty), int(total) / 1e6) for kind, ten, sixty, total in _STALLS.findall(text)}
    return Stalls(*found["some"], *found["full"]) if len(found) == 2 else None


def _swapped(vmstat: Path) -> tuple[int, int] | None:
    """Bytes that came from swap and went there: pages of ``/proc/vmstat``; psutil where there is no such file.

    macOS counts the pages of mapped files among them, and Windows tells nothing: there it is unknown.
    """
    text = read_text(vmstat)
    if text is None:
        if platform.system() in ("Darwin", "Windows"):
            return None
        swap = psutil.swap_memory()
        return swap.sin, swap.sout
    pages = {name: int(number) for name, number in _SWAPPED.findall(text)}
    return (pages["in"] * mmap.PAGESIZE, pages["out"] * mmap.PAGESIZE) if len(pages) == 2 else None
