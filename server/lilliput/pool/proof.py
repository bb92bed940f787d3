"""Which load of each model held last: it need not compute a whole prompt again before it is ready.

A load that differs in anything (file, settings, machine, build) from the one that held last may fail at its first full
batch although the model is there: kernels without an implementation, memory that a device grants only when it is used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from lilliput.engine import Start, Verdicts


class Proof:
    """What held last of the engine called ``name``; ``place`` tells machine and build."""

    def __init__(self, verdicts: Verdicts, name: str, place: str) -> None:
        self._verdicts = verdicts
        self._key = f"proven-load/1/{place}/{name}"

    def holds(self, digest: str) -> bool:
        """Whether the load that held last was this one."""
        return self._verdicts.get_fact(self._key) == digest

    def note(self, digest: str) -> None:
        """This load has held."""
        if not self.holds(digest):
            self._verdicts.set_fact(self._key, digest)


def digest_of(start: Start, files: Iterable[Path]) -> str:
    """Tells a load from all that differ from it in its files, as far as sizes and times tell, or in its settings."""
    found = [_identity(path) for path in files]
    settings = (start.model, start.context, start.slots, start.role, start.draft)
    return hashlib.sha256(msgspec.msgpack.encode((found, settings))).hexdigest()


def _identity(path: Path) -> tuple[int, int] | None:
    """Size and time of a file; None where it cannot be looked at, which the engine will say better."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
