"""The process's own heap."""

from __future__ import annotations

import ctypes


def give_back() -> bool:
    """Have the C library give free memory back to the system; whether it had any to give.

    glibc keeps what was freed in pieces of up to 32 MiB (``M_MMAP_THRESHOLD`` grows that far by itself): saved prefixes
    are such. Other libraries have no such call, and keep little.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, TypeError, OSError):  # another library; Windows has none to ask
        return False
    return bool(trim(0))
