"""Where header bytes come from: anything that can be read at an offset."""

from __future__ import annotations

import stat
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from lilliput.errors import BadFile, NotFound, StorageError


class ByteSource(Protocol):
    """Bytes that can be read at an offset: a local file, a buffer, a file behind HTTP ranges."""

    def read(self, offset: int, size: int) -> bytes:
        """The ``size`` bytes at ``offset``; fewer only where the source ends."""
        ...

    @property
    def size_bytes(self) -> int | None:
        """Length of the whole source, None when it is not known."""
        ...


class BytesSource:
    """Bytes in memory; ``complete=False`` says that they are only the beginning of a longer file of unknown length."""

    def __init__(self, data: bytes, *, complete: bool = True) -> None:
        self._data = data
        self._complete = complete

    def read(self, offset: int, size: int) -> bytes:
        """The ``size`` bytes at ``offset``; fewer only at the end."""
        return self._data[offset : offset + size]

    @property
    def size_bytes(self) -> int | None:
        """Length of the file these bytes are, None when they are only its beginning."""
        return len(self._data) if self._complete else None


class FileSource:
    """A regular local file, open while the context lasts.

    Raises ``NotFound`` for a missing file, ``BadFile`` for what is no regular file (a pipe would block, a device has no
    end), ``StorageError`` where the system refuses.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._size_bytes: int | None = None

    def __enter__(self) -> Self:
        try:
            status = self._path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise BadFile(f"{self._path} is not a regular file", hint="name a .gguf file")
            self._file = self._path.open("rb", buffering=0)
        except FileNotFoundError as error:
            raise NotFound(f"there is no file {self._path}", hint="check the path") from error
        except (OSError, ValueError) as error:
            raise StorageError(
                f"cannot read {self._path}: {error}", hint="check the path and its permissions"
            ) from error
        self._size_bytes = status.st_size
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self, offset: int, size: int) -> bytes:
        """The ``size`` bytes at ``offset``; fewer only at the end. Raises ``StorageError`` when the disk fails."""
        if self._file is None:
            raise ValueError("a FileSource is read inside its context")
        pieces: list[bytes] = []
        try:
            self._file.seek(offset)
            while size > 0:
                piece = self._file.read(size)
                if not piece:
                    break
                pieces.append(piece)
                size -= len(piece)
        except OSError as error:
            raise StorageError(f"cannot read {self._path}: {error}", hint="check the disk") from error
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    @property
    def size_bytes(self) -> int | None:
        """Length of the file when it was opened."""
        return self._size_bytes
