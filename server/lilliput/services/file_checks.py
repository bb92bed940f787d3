"""Whether an installed file is still what was installed: its size, and the SHA-256 of all its bytes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from lilliput.catalogue import InstalledFile
from lilliput.services.agreements import Facts
from lilliput.units import MIB

FileState = Literal["sound", "recorded", "changed", "damaged", "missing", "unreadable"]
BAD: frozenset[FileState] = frozenset({"damaged", "missing", "unreadable"})

_STEP_BYTES = 16 * MIB


@dataclass(frozen=True, slots=True)
class FileCheck:
    """What was found of one file; digests are bare hex, None where nothing was recorded or the file was not read.

    ``recorded``: it had no digest before, now it has one. ``changed``: somebody has written the file since its digest
    was recorded so, and the new one is kept. ``fault`` tells a person what is wrong.
    """

    state: FileState
    found_bytes: int | None = None
    expected_sha256: str | None = None
    found_sha256: str | None = None
    fault: str | None = None


class _Recorded(msgspec.Struct, frozen=True):
    """The digest of a file that came without one, as it was when it was verified first."""

    sha256: str
    size_bytes: int
    mtime_ns: int


async def check_file(facts: Facts, file: InstalledFile, on_bytes: Callable[[int], None]) -> FileCheck:
    """Read a file to its end and compare it with what was recorded; one of another size is not read.

    ``on_bytes`` hears of each piece, in the event loop. A cancel takes effect at once. Raises StorageError.
    """
    try:
        status = await asyncio.to_thread(file.path.stat)
        if not stat.S_ISREG(status.st_mode):
            return FileCheck("unreadable", expected_sha256=file.sha256, fault="it is no file")
        if status.st_size != file.size_bytes:
            fault = f"it has {status.st_size} bytes, {file.size_bytes} were expected"
            return FileCheck("damaged", status.st_size, file.sha256, fault=fault)
        found = await _sha256(file.path, on_bytes)
    except (FileNotFoundError, NotADirectoryError):
        return FileCheck("missing", expected_sha256=file.sha256, fault="it is gone")
    except OSError as error:
        return FileCheck("unreadable", expected_sha256=file.sha256, fault=error.strerror or str(error))
    if file.sha256 is None:
        return await asyncio.to_thread(_compare_recorded, facts, file.path, status, found)
    return _compared(status, file.sha256, found)


def _compared(status: os.stat_result, expected: str, found: str) -> FileCheck:
    if found == expected:
        return FileCheck("sound", status.st_size, expected, found)
    return FileCheck("damaged", status.st_size, expected, found, f"its SHA-256 is {found}, {expected} was expected")


def _compare_recorded(facts: Facts, path: Path, status: os.stat_result, found: str) -> FileCheck:
    """For a file whose digest nobody told: the first one counts until somebody writes the file."""
    key = f"sha256:{path}"
    text = facts.get_fact(key)
    known = None if text is None else msgspec.json.decode(text, type=_Recorded)
    if known is not None and (known.size_bytes, known.mtime_ns) == (status.st_size, status.st_mtime_ns):
        return _compared(status, known.sha256, found)
    now = _Recorded(found, status.st_size, status.st_mtime_ns)
    facts.set_fact(key, msgspec.json.encode(now).decode())
    if known is None:
        return FileCheck("recorded", status.st_size, None, found)
    if known.sha256 == found:
        return FileCheck("sound", status.st_size, found, found)
    return FileCheck("changed", status.st_size, known.sha256, found)


async def _sha256(path: Path, on_bytes: Callable[[int], None]) -> str:
    """The digest of a file, read in a thread that nobody waits for after a cancel: it ends with its piece."""
    loop = asyncio.get_running_loop()
    stop = threading.Event()

    def tell(count: int) -> None:
        if not stop.is_set():
            on_bytes(count)

    def read() -> str:
        digest = hashlib.sha256()
        buffer = memoryview(bytearray(_STEP_BYTES))
        with path.open("rb", buffering=0) as stream:
            while not stop.is_set() and (count := stream.readinto(buffer)):
                digest.update(buffer[:count])
                loop.call_soon_threadsafe(tell, count)
        return digest.hexdigest()

    try:
        return await asyncio.to_thread(read)
    finally:
        stop.set()
