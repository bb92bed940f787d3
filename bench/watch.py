"""What processes hold and use while rounds run: memory, processor time of idle servers, and of everything else."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import psutil


def pss_bytes(processes: Iterable[psutil.Process]) -> int | None:
    """Their proportional set sizes together (pages that several share count in part); None where none is told."""
    found = []
    for process in processes:
        try:
            size = getattr(process.memory_full_info(), "pss", None)
        except psutil.Error:
            continue
        if size is None:
            return None
        found.append(int(size))
    return sum(found) if found else None


@dataclass(frozen=True, slots=True)
class Usage:
    """Cores in use on average over a time: by the idle servers, and by what has no part in the benchmark."""

    idle_cores: float
    foreign_cores: float


class CpuWatch:
    """Processor time from its making to ``read``; ``busy`` and ``idle`` are servers that take part or wait."""

    def __init__(self, busy: Iterable[psutil.Process], idle: Iterable[psutil.Process]) -> None:
        self._busy, self._idle = list(busy), list(idle)
        self._began = time.perf_counter()
        self._start = self._now()

    def read(self, generator_cpu_s: float) -> Usage:
        """Averages since then, the load generator left out."""
        seconds = max(time.perf_counter() - self._began, 1e-9)
        busy, idle, everything = (now - then for now, then in zip(self._now(), self._start, strict=True))
        foreign = max(0.0, everything - busy - idle - generator_cpu_s)
        return Usage(idle / seconds, foreign / seconds)

    def _now(self) -> tuple[float, float, float]:
        return _cpu_s(self._busy), _cpu_s(self._idle), _system_cpu_s()


def _cpu_s(processes: Iterable[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def _system_cpu_s() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))
