"""What a daemon holds of its machine, seen from outside: memory, files, threads, children."""

from __future__ import annotations

from dataclasses import dataclass

import psutil
from tests.support.watching import Repeated


@dataclass(frozen=True, slots=True)
class Footprint:
    """One look: ``resident_bytes`` of the daemon alone, ``files`` are its open descriptors, ``children`` all below."""

    resident_bytes: int
    files: int
    threads: int
    children: int


def footprint(pid: int) -> Footprint:
    """The footprint of a daemon now."""
    process = psutil.Process(pid)
    with process.oneshot():
        resident, files, threads = process.memory_info().rss, process.num_fds(), process.num_threads()
    return Footprint(resident, files, threads, len(process.children(recursive=True)))


class Peaks(Repeated):
    """Keeps the most that a daemon and any one of its children had resident while the block runs."""

    def __init__(self, pid: int, every_s: float = 0.05) -> None:
        super().__init__()
        self._process = psutil.Process(pid)
        self._every_s = every_s
        self.daemon_bytes = 0
        self.child_bytes = 0

    def _run(self) -> None:
        while not self._over.wait(self._every_s):
            self.daemon_bytes = max(self.daemon_bytes, resident(self._process))
            for child in self._process.children(recursive=True):
                self.child_bytes = max(self.child_bytes, resident(child))


def resident(process: psutil.Process) -> int:
    """What a process has resident in bytes; 0 when it has ended."""
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
