"""How fast the disk under a file reads: a short measurement that passes the page cache by."""

from __future__ import annotations

import mmap
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lilliput.units import MIB

Way = Literal["direct", "uncached", "dropped"]

BLOCK_BYTES = 4 * MIB
MOST_BYTES = 64 * MIB
MOST_S = 0.5

_F_NOCACHE = 48
"""``F_NOCACHE`` of macOS' sys/fcntl.h."""


@dataclass(frozen=True, slots=True)
class DiskSpeed:
    """What was read of a file, and how the cache was avoided.

    ``direct``: the kernel read from the disk itself (O_DIRECT). ``uncached``: macOS was told not to cache. ``dropped``:
    the part was taken out of the cache first, as far as nobody maps it, so that the rate may be that of the cache.
    """

    read_bytes: int
    took_s: float
    way: Way

    @property
    def bytes_s(self) -> float:
        """The rate."""
        return self.read_bytes / max(self.took_s, 1e-9)


def measure_disk(path: Path, *, most_bytes: int = MOST_BYTES, most_s: float = MOST_S) -> DiskSpeed | None:
    """Read blocks from the middle of ``path`` for at most about ``most_s``; None where the cache cannot be avoided.

    A block that is begun is read to its end. Files below one block are too small to tell anything. Raises OSError.
    """
    size_bytes = path.stat().st_size
    if size_bytes < BLOCK_BYTES:
        return None
    start = size_bytes // 2 // BLOCK_BYTES * BLOCK_BYTES
    stop = min(start + most_bytes, size_bytes // BLOCK_BYTES * BLOCK_BYTES) if start else BLOCK_BYTES
    opened = _open_direct(path) or _open_uncached(path) or _open_dropped(path, start, stop)
    if opened is None:
        return None
    descriptor, way = opened
    try:
        return _read(descriptor, way, range(start, max(stop, start + BLOCK_BYTES), BLOCK_BYTES), most_s)
    finally:
        os.close(descriptor)


def _read(descriptor: int, way: Way, offsets: range, most_s: float) -> DiskSpeed | None:
    began, read_bytes = time.perf_counter(), 0
    with mmap.mmap(-1, BLOCK_BYTES) as block:  # begins at a page, as direct reads demand
        for offset in offsets:
            count = os.preadv(descriptor, [block], offset)
            read_bytes += count
            if count < BLOCK_BYTES or time.perf_counter() - began > most_s:
                break
    return DiskSpeed(read_bytes, time.perf_counter() - began, way) if read_bytes else None


def _open_direct(path: Path) -> tuple[int, Way] | None:
    """Linux and FreeBSD; file systems in memory refuse it, at the opening or at the first read."""
    flag = getattr(os, "O_DIRECT", 0)
    if not flag or not hasattr(os, "preadv"):
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | flag)
    except OSError:
        return None
    try:
        with mmap.mmap(-1, BLOCK_BYTES) as block:
            os.preadv(descriptor, [block], 0)  # it also wakes a disk that sleeps
    except OSError:
        os.close(descriptor)
        return None
    return descriptor, "direct"


def _open_uncached(path: Path) -> tuple[int, Way] | None:
    if platform.system() != "Darwin":
        return None
    import fcntl  # late: POSIX only

    descriptor = os.open(path, os.O_RDONLY)
    fcntl.fcntl(descriptor, _F_NOCACHE, 1)
    return descriptor, "uncached"


def _open_dropped(path: Path, start: int, stop: int) -> tuple[int, Way] | None:
    if not hasattr(os, "posix_fadvise") or not hasattr(os, "preadv"):
        return None
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, start, stop - start, os.POSIX_FADV_DONTNEED)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor, "dropped"
