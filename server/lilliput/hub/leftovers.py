"""What lies in the Hugging Face cache that nobody may need any more: found without following links, removed with care.

Says what is there, not what is needed: that knows who knows models and jobs. Other tools share the cache, so what only
they make (their own incomplete files, snapshots without blobs) is not even listed.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import filelock

from lilliput.hub.cache import PART_SUFFIX, Cache
from lilliput.hub.storage import storage_faults

CacheKind = Literal["blob", "part", "temporary", "link"]

_REPOSITORY = re.compile(r"models--(?:([^/]+)--)?([^/]+)")
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp")


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """A ``blob`` with the ``pointers`` that lead to it; the ``part`` of one; a ``temporary`` name of a pointer that was
    never finished; or a ``link`` into the cache that leads nowhere. ``changed_at`` is unix seconds, ``inode`` tells the
    entry from another of its name.
    """

    kind: CacheKind
    path: Path
    repo_id: str
    size_bytes: int
    changed_at: float
    inode: int
    digest: str | None = None
    pointers: tuple[Path, ...] = ()


class Leftovers:
    """Finds and removes entries of one cache. All methods block; raises ``StorageError``."""

    def __init__(self, root: Path) -> None:
        self._root = Path(os.path.realpath(root))  # itself it may be a link: that is the user's own choice
        self._cache = Cache(self._root)

    def list(self) -> tuple[CacheEntry, ...]:
        """All entries, folder by folder; a folder that is a link is passed over."""
        with storage_faults(self._root):
            return tuple(
                entry
                for folder, status in _inside(self._root)
                if (match := _REPOSITORY.fullmatch(folder.name)) and stat.S_ISDIR(status.st_mode)
                for entry in _of_repository(folder, "/".join(part for part in match.groups() if part))
            )

    def remove(self, entry: CacheEntry) -> int | None:
        """Remove an entry, a blob with its pointers; the bytes set free, None when it is at work or not as it was.

        Holds the lock under which blobs are written, as all tools do. Cut short, the blob is the last to go.
        """
        folder = self._root / entry.path.relative_to(self._root).parts[0]
        if entry.digest is None:
            return self._remove(folder, entry)
        lock = self._root / ".locks" / folder.name / f"{entry.digest}.lock"
        with storage_faults(lock):
            lock.parent.mkdir(parents=True, exist_ok=True)
            try:
                with filelock.FileLock(lock, timeout=0, thread_local=False, mode=0o664):
                    return self._remove(folder, entry)
            except filelock.Timeout:
                return None

    def _remove(self, folder: Path, entry: CacheEntry) -> int | None:
        now = next((one for one in _of_repository(folder, entry.repo_id) if one.path == entry.path), None)
        if now is None or not set(now.pointers) <= set(entry.pointers):
            return None
        is_same = replace(now, pointers=entry.pointers) == entry
        if not is_same or os.path.realpath(entry.path.parent) != str(entry.path.parent):
            return None
        with storage_faults(entry.path):
            for pointer in entry.pointers:
                pointer.unlink(missing_ok=True)
            freed_bytes = entry.size_bytes if entry.path.lstat().st_nlink == 1 else 0
            entry.path.unlink(missing_ok=True)
            self._cache.tidy(folder, (*entry.pointers, entry.path))
        return freed_bytes


def _of_repository(folder: Path, repo_id: str) -> Iterator[CacheEntry]:
    leading: dict[Path | int, list[Path]] = {}  # pointers by the path of their blob, or its inode
    for path, status in _walk(folder / "snapshots"):
        if stat.S_ISLNK(status.st_mode):
            target = Path(os.path.normpath(path.parent / path.readlink()))
            leading.setdefault(target, []).append(path)
            if target.is_relative_to(folder) and not os.path.lexists(target):
                yield CacheEntry("link", path, repo_id, 0, status.st_mtime, status.st_ino)
        elif _TEMPORARY.fullmatch(path.name):
            size_bytes = status.st_size if status.st_nlink == 1 else 0
            yield CacheEntry("temporary", path, repo_id, size_bytes, status.st_mtime, status.st_ino)
        elif status.st_nlink > 1:  # a hard link, where the system has no symbolic ones
            leading.setdefault(status.st_ino, []).append(path)
    for path, status in _inside(folder / "blobs"):
        digest = path.name.removesuffix(PART_SUFFIX)
        if stat.S_ISREG(status.st_mode) and _DIGEST.fullmatch(digest):
            kind: CacheKind = "blob" if digest == path.name else "part"
            pointers = tuple(sorted((*leading.get(path, ()), *leading.get(status.st_ino, ()))))
            yield CacheEntry(kind, path, repo_id, status.st_size, status.st_mtime, status.st_ino, digest, pointers)


def _walk(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """All files and links below a folder, with what is known of them; links are not followed."""
    for path, status in _inside(folder):
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(path)
        else:
            yield path, status


def _inside(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """What is in a folder, by name; nothing where there is none, or a link. What goes meanwhile is left out."""
    if folder.is_symlink():
        return
    try:
        paths = sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    for path in paths:
        with suppress(FileNotFoundError):
            yield path, path.lstat()
