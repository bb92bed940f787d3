"""A file on its way: fetched bytes, hashed as they are written, and found again by the next process."""

from __future__ import annotations

import hashlib
import os
from io import FileIO
from pathlib import Path
from typing import Protocol

from lilliput.hub.records import RemoteFile
from lilliput.hub.storage import storage_faults, sync_directory
from lilliput.units import MIB

HASH_STEP_BYTES = 8 * MIB


class Digest(Protocol):
    """What is used of hashlib's objects."""

    def update(self, data: bytes, /) -> None:
        """Take in more bytes."""

    def hexdigest(self) -> str:
        """The digest of all bytes so far, in lower-case hexadecimal."""
        ...


def new_digest(file: RemoteFile) -> Digest:
    """An empty digest of the kind the Hub announces for ``file``: SHA-256, or git's blob id outside LFS."""
    if file.sha256 is not None:
        return hashlib.sha256()
    digest = hashlib.sha1(usedforsecurity=False)
    digest.update(b"blob %d\0" % file.size_bytes)
    return digest


class Part:
    """The ``.part`` of one file. Every method blocks for the length of one disk operation, and raises ``StorageError``.

    ``size_bytes`` counts what is on disk; ``hashed_bytes`` what the digest has seen. Both are equal before ``append``.
    """

    def __init__(self, path: Path, file: RemoteFile) -> None:
        self.path = path
        self.size_bytes = 0
        self.hashed_bytes = 0
        self._file = file
        self._digest = new_digest(file)
        self._stream: FileIO | None = None

    @property
    def remaining_bytes(self) -> int:
        """Bytes still to be fetched."""
        return self._file.size_bytes - self.size_bytes

    @property
    def is_sound(self) -> bool:
        """Whether all bytes are here and their digest is the announced one."""
        return self.remaining_bytes == 0 and self._digest.hexdigest() == self._file.digest

    def open(self) -> None:
        """Open what an earlier run left, or an empty file; a part that is longer than the file starts anew."""
        with storage_faults(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # os.open: no mode of open() creates without truncating and yet writes where one seeks.
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
            self._stream = FileIO(os.open(self.path, flags, 0o644), "r+b")
            self.size_bytes = self._stream.seek(0, os.SEEK_END)
        if self.remaining_bytes < 0:
            self.restart()

    def hash_step(self) -> None:
        """Hash the next bytes of what an earlier run left."""
        stream = self._opened()
        with storage_faults(self.path):
            stream.seek(self.hashed_bytes)
            block = stream.read(min(HASH_STEP_BYTES, self.size_bytes - self.hashed_bytes))
        if not block:  # somebody cut the file
            self.size_bytes = self.hashed_bytes
            return
        self._digest.update(block)
        self.hashed_bytes += len(block)

    def append(self, data: bytes) -> None:
        """Write ``data`` at the end and hash it; after a failure the part is as it was before."""
        stream = self._opened()
        with storage_faults(self.path, lambda: self.remaining_bytes):
            try:
                stream.seek(self.size_bytes)
                view = memoryview(data)
                while view:
                    view = view[stream.write(view) :]
            except OSError:
                stream.truncate(self.size_bytes)
                raise
        self._digest.update(data)
        self.size_bytes += len(data)
        self.hashed_bytes = self.size_bytes

    def restart(self) -> None:
        """Forget all bytes."""
        with storage_faults(self.path):
            self._opened().truncate(0)
        self.size_bytes = self.hashed_bytes = 0
        self._digest = new_digest(self._file)

    def finish(self, destination: Path) -> None:
        """Make the bytes durable and move them to ``destination``, all or nothing."""
        with storage_faults(self.path):
            os.fsync(self._opened().fileno())
            self.close()
            self.path.replace(destination)
            sync_directory(destination.parent)

    def discard(self) -> None:
        """Close and remove the part."""
        self.close()
        with storage_faults(self.path):
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file, leaving it for the next run."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _opened(self) -> FileIO:
        if self._stream is None:
            raise ValueError(f"{self.path} is not open")
        return self._stream
