"""The standard Hugging Face cache on disk, so that other tools see our files and we use theirs.

<root>/models--owner--name/blobs/<digest>                  the content
                           blobs/<digest>.lilliput.part    ours: what has been fetched so far
                           snapshots/<commit>/<path>       a relative symlink to the blob, or a hard link, or a copy
                           refs/<branch>                   the commit that the branch meant last
<root>/.locks/models--owner--name/<digest>.lock            held while a blob is fetched, by huggingface_hub too
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from lilliput.errors import StorageError
from lilliput.hub.names import is_commit
from lilliput.hub.records import RemoteFile, Repository
from lilliput.hub.storage import storage_faults, sync_directory

PART_SUFFIX = ".lilliput.part"


class Cache:
    """Where things are below ``root``; paths are built from checked names only (see ``RemoteFile``)."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def blob(self, repository: Repository, file: RemoteFile) -> Path:
        """The content of ``file``, under its digest."""
        return self._folder(repository) / "blobs" / file.digest

    def part(self, repository: Repository, file: RemoteFile) -> Path:
        """What has been fetched of ``file``; the name is always the same, so that the next process finds it."""
        return self._folder(repository) / "blobs" / (file.digest + PART_SUFFIX)

    def lock(self, repository: Repository, file: RemoteFile) -> Path:
        """The lock file that every writer of the blob holds."""
        return self.root / ".locks" / self._folder(repository).name / f"{file.digest}.lock"

    def pointer(self, repository: Repository, file: RemoteFile) -> Path:
        """The path that people and engines use: it has the file's own name."""
        return self._folder(repository).joinpath("snapshots", repository.revision, *file.path.split("/"))

    def installed(self, repository: Repository, file: RemoteFile) -> Path | None:
        """The pointer of ``file`` if it leads to content of the right size, else None."""
        pointer = self.pointer(repository, file)
        return pointer if _has_size(pointer, file.size_bytes) else None

    def content(self, repository: Repository, file: RemoteFile) -> Path | None:
        """Content of the right size that any tool left for ``file``: a blob, or a pointer that is a file itself."""
        candidates = (self.blob(repository, file), self.pointer(repository, file))
        return next((path for path in candidates if _has_size(path, file.size_bytes)), None)

    def missing_bytes(self, repository: Repository, files: tuple[RemoteFile, ...]) -> int:
        """Bytes still to be written for ``files`` that are not here, parts deducted; equal content counts once."""
        missing = {file.digest: file for file in files if self.content(repository, file) is None}
        return sum(max(0, file.size_bytes - _size_of(self.part(repository, file))) for file in missing.values())

    def link(self, repository: Repository, file: RemoteFile) -> Path:
        """Make the pointer lead to the blob, note what the branch means; the pointer. Raises ``StorageError``."""
        blob, pointer = self.blob(repository, file), self.pointer(repository, file)
        with storage_faults(pointer):
            if not _leads_to(pointer, blob) and blob.exists():
                pointer.parent.mkdir(parents=True, exist_ok=True)
                fresh = pointer.with_name(f".{uuid.uuid4().hex}.tmp")
                try:
                    _point(fresh, blob, Path(os.path.relpath(blob, pointer.parent)))
                    fresh.replace(pointer)
                finally:
                    fresh.unlink(missing_ok=True)
                sync_directory(pointer.parent)
            self._note_ref(repository)
        if self.installed(repository, file) is None:
            raise StorageError(
                f"{pointer} vanished while it was made", hint="another program cleans the cache: pull again"
            )
        return pointer

    def remove(self, pointer: Path) -> int:
        """Remove an installed file, and its content where nothing else needs it; the bytes set free.

        A path that is not a pointer of this cache is left alone. Raises ``StorageError``.
        """
        if not pointer.is_relative_to(self.root):
            return 0
        parts = pointer.relative_to(self.root).parts
        if len(parts) < 4 or not parts[0].startswith("models--") or parts[1] != "snapshots" or ".." in parts:
            return 0
        folder = self.root / parts[0]
        with storage_faults(pointer):
            if not pointer.is_symlink():
                freed_bytes = _unlink(pointer)
            else:
                blob = pointer.parent / pointer.readlink()
                pointer.unlink()
                shared = any(
                    _leads_to(other, blob) for other in (folder / "snapshots").rglob("*") if other.is_symlink()
                )
                ours = Path(os.path.normpath(blob)).parent == folder / "blobs"
                freed_bytes = _unlink(blob) if ours and not shared else 0
            self.tidy(folder, (pointer,))
        return freed_bytes

    def tidy(self, folder: Path, gone: Iterable[Path]) -> None:
        """After files of a repository's ``folder`` are gone, remove what they leave empty, and refs to nothing."""
        for path in gone:
            _prune(path.parent, folder / "snapshots")
        self._forget_refs(folder)

    def _folder(self, repository: Repository) -> Path:
        return self.root / "--".join(["models", *repository.repo_id.split("/")])

    def _note_ref(self, repository: Repository) -> None:
        if is_commit(repository.ref):
            return
        ref = self._folder(repository).joinpath("refs", *repository.ref.split("/"))
        with suppress(OSError):
            if ref.read_text(encoding="ascii") == repository.revision:
                return
        ref.parent.mkdir(parents=True, exist_ok=True)
        fresh = ref.with_name(f".{uuid.uuid4().hex}.tmp")
        fresh.write_text(repository.revision, encoding="ascii")
        fresh.replace(ref)

    def _forget_refs(self, folder: Path) -> None:
        snapshots = folder / "snapshots"
        kept = {entry.name for entry in snapshots.iterdir()} if snapshots.exists() else set()
        for ref in [path for path in (folder / "refs").rglob("*") if path.is_file()]:
            if ref.read_text(encoding="ascii", errors="replace") not in kept:
                ref.unlink()
        if not kept and not any((folder / "blobs").glob("*")):
            shutil.rmtree(folder, ignore_errors=True)


def path_in_repository(pointer: Path) -> str | None:
    """The path inside its repository of a file that was installed from the Hub; None for a path of another layout."""
    parts = pointer.parts
    for index in range(len(parts) - 3, -1, -1):
        if parts[index] == "snapshots" and is_commit(parts[index + 1]):
            return "/".join(parts[index + 2 :])
    return None


def _has_size(path: Path, size_bytes: int) -> bool:
    return path.is_file() and _size_of(path) == size_bytes


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _leads_to(pointer: Path, blob: Path) -> bool:
    try:
        return pointer.samefile(blob)
    except OSError:
        return False


def _point(fresh: Path, blob: Path, relative: Path) -> None:
    """A symlink; where the system has none a hard link (NTFS without developer mode); else a copy (exFAT)."""
    try:
        fresh.symlink_to(relative)
    except (OSError, NotImplementedError):
        try:
            fresh.hardlink_to(blob)
        except (OSError, NotImplementedError):
            shutil.copyfile(blob, fresh)


def _unlink(path: Path) -> int:
    """Remove ``path`` if it exists; the bytes that this set free."""
    try:
        status = path.lstat()
        path.unlink()
    except FileNotFoundError:
        return 0
    return status.st_size if status.st_nlink == 1 else 0


def _prune(folder: Path, top: Path) -> None:
    """Remove ``folder`` and its parents up to ``top`` while they are empty."""
    while folder.is_relative_to(top):
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
