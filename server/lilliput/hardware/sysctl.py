"""macOS tells about its hardware through ``sysctlbyname``; on other systems every answer here is None."""

from __future__ import annotations

import ctypes
import platform
import sys
from typing import Any


def sysctl_number(name: str) -> int | None:
    """The integer (4 or 8 bytes) behind ``name``, None when there is no such value or the system is not macOS."""
    data = _read(name)
    return int.from_bytes(data, sys.byteorder, signed=True) if data is not None and len(data) in (4, 8) else None


def sysctl_text(name: str) -> str | None:
    """The text behind ``name``, None as in ``sysctl_number``."""
    data = _read(name)
    return None if data is None else data.rstrip(b"\0").decode("utf-8", "replace") or None


def _read(name: str) -> bytes | None:
    return _ask(ctypes.CDLL(None), name) if platform.system() == "Darwin" else None


def _ask(library: Any, name: str) -> bytes | None:
    """``sysctlbyname`` twice: for the size, then for the bytes."""
    size = ctypes.c_size_t(0)
    if library.sysctlbyname(name.encode(), None, ctypes.byref(size), None, ctypes.c_size_t(0)) != 0:
        return None
    buffer = ctypes.create_string_buffer(size.value)
    if library.sysctlbyname(name.encode(), buffer, ctypes.byref(size), None, ctypes.c_size_t(0)) != 0:
        return None
    return buffer.raw[: size.value]
