"""What was found of installed files, of what lies about, and of what the Hub has by now."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from lilliput_client.errors import ProtocolError
from lilliput_client.values import Job

_BAD = frozenset({"damaged", "missing", "unreadable"})


@dataclass(frozen=True, slots=True)
class FileReport:
    """What a verification found of one file: ``state`` is sound, recorded, changed, damaged, missing or unreadable.

    Digests are bare hex. ``hub`` is what the Hub says: same, differs, gone, unknown, or None where it was not asked.
    """

    model: str
    path: str
    size_bytes: int
    state: str
    found_bytes: int | None = None
    expected_sha256: str | None = None
    found_sha256: str | None = None
    fault: str | None = None
    hub: str | None = None
    hub_reason: str | None = None
    remedy: str | None = None

    @property
    def bad(self) -> bool:
        """Whether something must be done about it."""
        return self.state in _BAD or self.hub == "differs"


@dataclass(frozen=True, slots=True)
class Leftover:
    """A file that nobody may need: ``kind`` is model, part, link, prefix or temporary; ``why`` it goes or stays."""

    path: str
    kind: str
    size_bytes: int
    why: str
    changed_at: float | None = None
    age_s: float | None = None


@dataclass(frozen=True, slots=True)
class Garbage:
    """What may go, ``size_bytes`` in all, and what is ``kept``: too young, or at work."""

    garbage: tuple[Leftover, ...] = ()
    kept: tuple[Leftover, ...] = ()
    size_bytes: int = 0
    older_than_s: float | None = None


@dataclass(frozen=True, slots=True)
class Pruned:
    """What is gone; ``skipped`` are those that somebody used by then."""

    removed: tuple[Leftover, ...] = ()
    skipped: tuple[Leftover, ...] = ()
    freed_bytes: int = 0


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file that the Hub has otherwise now: ``change`` is changed, added or removed; digests are bare hex."""

    path: str
    change: str
    size_bytes: int | None = None
    sha256: str | None = None
    hub_size_bytes: int | None = None
    hub_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Freshness:
    """A model against the Hub: ``state`` is up-to-date, newer, gone, unreachable or local; ``pull`` would update it."""

    model: str
    state: str
    repo: str | None = None
    revision: str | None = None
    hub_revision: str | None = None
    changes: tuple[FileChange, ...] = ()
    reason: str | None = None
    pull: str | None = None


def file_reports(job: Job) -> tuple[FileReport, ...]:
    """What a verification has found so far; ProtocolError when the job is no verification."""
    try:
        return msgspec.convert((job.result or {}).get("files", ()), tuple[FileReport, ...])
    except msgspec.ValidationError as error:
        raise ProtocolError(f"the job {job.id} tells no checks of files: {error}") from None
