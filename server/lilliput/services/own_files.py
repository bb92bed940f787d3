"""Files in the data directory that may be garbage: listed and removed without ever following a link."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from lilliput.errors import StorageError
from lilliput.services.garbage import Found, Kind

PREFIX_FOLDER = "prefixes"


class OwnFiles:
    """The data directory, without ``others``: folders with rules of their own. All methods block.

    Only kinds of files that lilliput itself writes are listed, and models; a directory that is a link is passed over,
    and so is a link that leads out of the data directory. Raises StorageError.
    """

    def __init__(self, directory: Path, others: Collection[Path] = ()) -> None:
        self._directory = Path(os.path.realpath(directory))
        self._others = frozenset(Path(os.path.realpath(other)) for other in others)

    def list(self) -> tuple[Found, ...]:
        """All files that may be garbage."""
        try:
            return tuple(found for item in self._walk(self._directory) if (found := self._found(item)) is not None)
        except OSError as error:
            raise StorageError(
                f"cannot read {error.filename or self._directory}: {error.strerror}", hint="check its permissions"
            ) from error

    def remove(self, found: Found) -> int | None:
        """Remove a file; the bytes set free, None when it is not as it was listed."""
        parent = found.path.parent
        try:
            status = found.path.lstat()
            same = (status.st_mtime, self._size(status)) == (found.changed_at, found.size_bytes)
            if not same or os.path.realpath(parent) != str(parent):
                return None
            found.path.unlink()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(
                f"cannot remove {found.path}: {error.strerror}", hint="check the folder's permissions"
            ) from error
        if parent.parent == self._directory / PREFIX_FOLDER and not any(parent.iterdir()):
            parent.rmdir()
        return found.size_bytes

    def _walk(self, folder: Path) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as items:
                inside = sorted(items, key=lambda item: item.name)
        except FileNotFoundError:
            if folder == self._directory:
                raise
            return
        for item in inside:
            if item.is_dir(follow_symlinks=False):
                if Path(item.path) not in self._others:
                    yield from self._walk(Path(item.path))
            else:
                yield item

    def _found(self, item: os.DirEntry[str]) -> Found | None:
        path = Path(item.path)
        try:
            status = path.lstat()  # of the file: on Windows, a listing tells no links
        except FileNotFoundError:  # engines tidy up, too
            return None
        kind = self._kind(path, status)
        if kind is None:
            return None
        names = {str(path)}
        if kind == "model":  # what lies beside an installed model may belong to it: projectors, adapters
            names.add(str(path.parent))
        return Found(path, kind, self._size(status), status.st_mtime, frozenset(names))

    def _kind(self, path: Path, status: os.stat_result) -> Kind | None:
        if stat.S_ISLNK(status.st_mode):
            target = Path(os.path.normpath(path.parent / path.readlink()))
            inside = target.is_relative_to(self._directory)
            return "link" if inside and not os.path.lexists(target) else None
        if not stat.S_ISREG(status.st_mode):
            return None
        if path.parent.parent == self._directory / PREFIX_FOLDER:
            return {".state": "prefix", ".part": "temporary"}.get(path.suffix)  # type: ignore[return-value]
        return "model" if path.suffix.lower() == ".gguf" else None

    def _size(self, status: os.stat_result) -> int:
        return status.st_size if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 else 0
