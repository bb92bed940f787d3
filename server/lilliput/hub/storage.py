"""What the disk says: free space, full, and how to make a rename last."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lilliput.errors import DiskFull, StorageError
from lilliput.units import format_bytes

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def disk_full(path: Path, need_bytes: int | None) -> DiskFull:
    """No room at ``path``; ``need_bytes`` is what is still to be written, where that is known."""
    free = format_bytes(free_bytes(path))
    need = f"{format_bytes(need_bytes)} more are needed, " if need_bytes is not None else ""
    return DiskFull(
        f"the disk is full: {need}{free} are free at {path}",
        hint="free some space, or set HF_HOME to a folder on a larger disk; what was fetched is kept for the next try",
    )


def free_bytes(path: Path) -> int:
    """Free space for this user where ``path`` is or will be."""
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free


@contextmanager
def storage_faults(path: Path, need_bytes: Callable[[], int] | None = None) -> Iterator[None]:
    """Turn what the system refuses at ``path`` into ``DiskFull`` or ``StorageError``."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise disk_full(path.parent, need_bytes() if need_bytes else None) from error
        reason = error.strerror or str(error)
        raise StorageError(
            f"cannot write {path}: {reason}", hint="check the folder's permissions and its disk"
        ) from error


def sync_directory(directory: Path) -> None:
    """Make renames inside ``directory`` survive a power cut, where the system can (Windows opens no directories)."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        return
    finally:
        os.close(descriptor)


class DiskSpace:
    """Free space that running downloads count on, so that two of them do not promise themselves the same bytes."""

    def __init__(self, root: Path, reserve_bytes: int) -> None:
        self._root = root
        self._reserve_bytes = reserve_bytes
        self._claims: list[Callable[[], int]] = []

    def check(self, need_bytes: int) -> None:
        """Raise ``DiskFull`` unless ``need_bytes`` fit beside running downloads and the reserve."""
        wanted = need_bytes + self._reserve_bytes + sum(claim() for claim in self._claims)
        if need_bytes > 0 and free_bytes(self._root) < wanted:
            raise disk_full(self._root, wanted)

    @contextmanager
    def claimed(self, remaining_bytes: Callable[[], int]) -> Iterator[None]:
        """Hold a claim to what ``remaining_bytes`` says, as it shrinks. Raises ``DiskFull`` if there is no room."""
        self.check(remaining_bytes())
        self._claims.append(remaining_bytes)
        try:
            yield
        finally:
            self._claims.remove(remaining_bytes)
