"""What checks read of disks and files. All of it may block, and runs in threads that may be left behind."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from lilliput.catalogue import InstalledFile, InstalledModel
from lilliput.hardware import DiskSpeed, measure_disk
from lilliput.services.doctor.storage import FileState, Place


def read_place(what: str, path: Path) -> Place:
    """The folder, or the nearest one above it that exists; raises OSError."""
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    usage = shutil.disk_usage(place)
    return Place(what, str(path), usage.free, usage.total, os.access(place, os.W_OK | os.X_OK))


def read_files(models: Iterable[InstalledModel]) -> tuple[FileState, ...]:
    """Every file of every model as it is now."""
    return tuple(_state(model, file) for model in models for file in model.files)


def newest(paths: Iterable[Path]) -> tuple[str, float] | None:
    """The file that was written last, and when; None where none of them is there."""
    found = []
    for path in paths:
        try:
            found.append((str(path), path.stat().st_mtime))
        except OSError:
            continue
    return max(found, key=lambda one: one[1], default=None)


def measure_largest(models: Iterable[InstalledModel]) -> tuple[DiskSpeed | None, str | None]:
    """How fast the largest file that is there can be read, and its path; None without such a file."""
    files = [file for model in models for file in model.files if file.path.is_file()]
    if not files:
        return None, None
    path = max(files, key=lambda file: file.size_bytes).path
    return measure_disk(path), str(path)


def _state(model: InstalledModel, file: InstalledFile) -> FileState:
    try:
        stat = file.path.stat()
    except OSError:
        return FileState(
            model.name, model.source, str(file.path), file.size_bytes, None, installed_at=model.installed_at
        )
    return FileState(
        model=model.name,
        source=model.source,
        path=str(file.path),
        size_bytes=file.size_bytes,
        found_bytes=stat.st_size,
        readable=os.access(file.path, os.R_OK),
        modified_at=stat.st_mtime,
        installed_at=model.installed_at,
    )
