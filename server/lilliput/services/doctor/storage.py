"""What to think of disks and files: room, speed, and whether installed models are still what was installed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lilliput.hardware import DiskSpeed
from lilliput.services.doctor.finding import Evidence, Opinion, percent
from lilliput.units import GIB, counted, format_bytes, format_duration

LITTLE_BYTES, NO_BYTES = 10 * GIB, GIB
"""Free space below which a pull of a usual model fails, and below which even the daemon's own files may."""

SLOW_BYTES_S, VERY_SLOW_BYTES_S = 150e6, 30e6
"""Hard disks read 100 to 200 MB/s, SSDs 400 and more; below 30 are memory cards, old USB sticks and slow networks."""

_LATE_S = 60.0
"""A file's time may differ from that of its installation by so much."""


@dataclass(frozen=True, slots=True)
class Place:
    """A folder that the daemon writes to, and the disk under it."""

    what: str
    path: str
    free_bytes: int
    total_bytes: int
    writable: bool


@dataclass(frozen=True, slots=True)
class FileState:
    """A file of an installed model: what was installed and what is there now (None: nothing, or not to be read)."""

    model: str
    source: str
    path: str
    size_bytes: int
    found_bytes: int | None
    readable: bool = True
    modified_at: float | None = None
    installed_at: float = 0.0


def judge_space(places: Sequence[Place]) -> Opinion:
    """Whether there is room for the daemon's own files and for models."""
    evidence: dict[str, str | int | bool | None] = {}
    for place in places:
        evidence |= {
            f"{place.what}_path": place.path,
            f"{place.what}_free_bytes": place.free_bytes,
            f"{place.what}_total_bytes": place.total_bytes,
            f"{place.what}_writable": place.writable,
        }
    locked = next((place for place in places if not place.writable), None)
    if locked is not None:
        remedy = "give the daemon's user the right to write there, or set another: LILLIPUT_DATA_DIR, HF_HOME"
        return Opinion("problem", f"{locked.path} ({locked.what}) cannot be written", evidence, remedy)
    least = min(places, key=lambda place: place.free_bytes)
    share = percent(least.free_bytes / max(1, least.total_bytes))
    summary = f"{format_bytes(least.free_bytes)} ({share}) are free at {least.path}"
    if least.free_bytes >= LITTLE_BYTES:
        return Opinion("ok", summary, evidence)
    remedy = "remove models (`lilliput rm MODEL`), or set HF_HOME to a folder on a larger disk"
    return Opinion("problem" if least.free_bytes < NO_BYTES else "warning", summary, evidence, remedy)


def judge_disk_speed(speed: DiskSpeed | None, path: str | None, largest_bytes: int) -> Opinion:
    """Whether the disk is fast enough for mapped weights, which are read from it again whenever memory is short."""
    if path is None:
        return Opinion("unknown", "no installed model has a file to read", remedy="`lilliput pull MODEL`")
    if speed is None:
        return Opinion("unknown", "what is cached cannot be told from what is read here", {"path": path})
    wait_s = largest_bytes / speed.bytes_s
    evidence: Evidence = {
        "path": path,
        "bytes_s": round(speed.bytes_s),
        "read_bytes": speed.read_bytes,
        "took_s": round(speed.took_s, 4),
        "way": speed.way,
        "largest_model_bytes": largest_bytes,
        "largest_model_s": round(wait_s, 1),
    }
    summary = f"reads {speed.bytes_s / 1e6:.0f} MB/s: {format_duration(wait_s)} for the largest installed model"
    remedy = "keep models on a faster disk (HF_HOME), and models loaded (LILLIPUT_KEEP_ALIVE_S=-1)"
    if speed.bytes_s < VERY_SLOW_BYTES_S:
        return Opinion("problem", summary, evidence, remedy)
    return (
        Opinion("warning", summary, evidence, remedy)
        if speed.bytes_s < SLOW_BYTES_S
        else Opinion("ok", summary, evidence)
    )


def judge_files(files: Sequence[FileState]) -> Opinion:
    """Whether every file is there, readable, of its size and not changed since it was installed."""
    missing = [file for file in files if file.found_bytes is None]
    resized = [file for file in files if file.found_bytes not in (None, file.size_bytes)]
    locked = [file for file in files if file.found_bytes is not None and not file.readable]
    changed = [file for file in files if _changed(file)]
    models = {file.model for file in files}
    evidence: Evidence = {
        "models": len(models),
        "files": len(files),
        "bytes": sum(file.size_bytes for file in files),
        "missing": [file.path for file in missing],
        "of_other_size": [file.path for file in resized],
        "unreadable": [file.path for file in locked],
        "changed": [file.path for file in changed],
    }
    for found, what in ((missing, "is gone"), (resized, "has another size"), (locked, "cannot be read")):
        if found:
            first, more = found[0], len(found) - 1
            others = f", and {more} more" if more else ""
            reason = f"{_named(first)} {what}{others}"
            return Opinion("problem", reason, evidence, _again(first, locked=found is locked))
    if changed:
        reason = f"{_named(changed[0])} was written after it was installed"
        return Opinion("warning", reason, evidence, "`lilliput verify` compares all bytes with what the Hub announced")
    if not files:
        return Opinion("ok", "no model is installed", evidence)
    there = f"{counted(len(files), 'file')} of {counted(len(models), 'model')} there, in full size"
    return Opinion("ok", f"{there} (`lilliput verify` reads them)", evidence)


def _named(file: FileState) -> str:
    """A local file is registered under its path."""
    return file.path if file.model == file.path else f"{file.path} of {file.model}"


def _changed(file: FileState) -> bool:
    """Files that came with a package are unpacked anew by each installation."""
    return (
        file.source != "embedded"
        and file.found_bytes == file.size_bytes
        and file.modified_at is not None
        and file.modified_at > file.installed_at + _LATE_S
    )


def _again(file: FileState, *, locked: bool) -> str:
    if locked:
        return f"give the daemon's user the right to read {file.path}"
    if file.source == "hub":
        return f"`lilliput pull {file.model}` brings it back, `lilliput rm {file.model}` forgets it"
    if file.source == "embedded":
        return f"install again (`make install`), or forget it: `lilliput rm {file.model}`"
    return f"put it back, or forget it: `lilliput rm {file.model}`"
