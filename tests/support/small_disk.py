"""Disks that are small, full or read-only: a tmpfs of our own, where the system lets us mount one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.support.pulling import eventually

MB = 1_000_000


@contextmanager
def small_disk(place: Path, size_bytes: int) -> Iterator[Path]:
    """A disk of this size at ``place``, made there; the test is skipped where none can be mounted."""
    place.mkdir()
    if sys.platform != "linux" or shutil.which("mount") is None:
        pytest.skip("a small disk is made by mounting a tmpfs, which only Linux has")
    mounted = _mount("-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(place))
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        # The system lets go of a killed engine's memory-mapped file a moment after its end.
        eventually(lambda: subprocess.run(["umount", str(place)], capture_output=True, check=False).returncode == 0)


def make_read_only(place: Path) -> None:
    """Let nobody write to a disk any more; nobody may have a file open there for that."""
    made = _mount("-o", "remount,ro", str(place))
    assert made.returncode == 0, made.stderr


def fill_up(filler: Path) -> None:
    """What somebody else does who takes all that is left."""
    with filler.open("wb", buffering=0) as stream:
        for piece in (MB, 4096, 1):
            with suppress(OSError):
                while True:
                    stream.write(bytes(piece))


def _mount(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
