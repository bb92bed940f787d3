"""Small files of the kernel, read in one call: through Python's layers of text each costs four times as much."""

from __future__ import annotations

import os
from pathlib import Path

_MOST_BYTES = 1 << 16


def read_text(path: Path) -> str | None:
    """The first 64 KiB of a file as text, None when it is missing or refuses; bytes that are no UTF-8 are replaced."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        return os.read(descriptor, _MOST_BYTES).decode("utf-8", "replace")
    except OSError:
        return None
    finally:
        os.close(descriptor)


def read_word(path: Path) -> str:
    """The file's text without blanks at its ends, empty when it is missing or refuses."""
    return (read_text(path) or "").strip()


def read_number(path: Path) -> int | None:
    """The whole number that is all of the file, None when it is something else."""
    word = read_word(path)
    return int(word) if word.removeprefix("-").isdigit() else None
