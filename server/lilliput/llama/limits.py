"""Bounds for children that look at files nobody vouches for."""

from __future__ import annotations

import contextlib
import sys


def limit_memory(size_bytes: int) -> bool:
    """Let this process write to at most so much memory of its own; False where the system knows no such limit.

    Mapped files do not count (Linux since 4.7). Without it the time limit and the caps of the header reader still hold.
    """
    if sys.platform == "win32":
        return False
    import resource

    with contextlib.suppress(ValueError, OSError):
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = size_bytes if hard == resource.RLIM_INFINITY else min(size_bytes, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
        return True
    return False
