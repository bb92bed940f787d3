"""What memory a process holds."""

from __future__ import annotations

import psutil


def resident_bytes(pid: int) -> int | None:
    """The resident set, shared pages included; None when there is no such process or it may not be looked at."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None


def private_bytes(pid: int) -> int:
    """The part of the resident set that is no file: what is really missing from available memory; 0 if unknown.

    Where the system does not tell shared pages apart (macOS, Windows) it is 0, which counts too much as promised
    rather than too little.
    """
    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.Error:
        return 0
    shared = getattr(memory, "shared", None)
    return 0 if shared is None else max(0, int(memory.rss) - int(shared))
