"""Which files nobody needs: a decision over a listing, with the time passed in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lilliput.units import format_age

WEEK_S = 7 * 24 * 3600.0

Kind = Literal["model", "part", "link", "prefix", "temporary"]


@dataclass(frozen=True, slots=True)
class Found:
    """A file that may be garbage. ``names`` are all by which a model or a job may speak of it: paths and its digest.

    ``changed_at`` is unix seconds: when it was last written or used, or when a model let go of it.
    """

    path: Path
    kind: Kind
    size_bytes: int
    changed_at: float
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class Needs:
    """What is needed: names that installed models use, names that unfinished jobs speak of, and whether ``any_part``
    may be wanted, since a pull that goes on has not told yet of which files.
    """

    used: frozenset[str] = frozenset()
    at_work: frozenset[str] = frozenset()
    any_part: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """A file with why it goes or why it stays."""

    found: Found
    age_s: float
    why: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What may go, the largest first, and what would if it were older or if no job worked on it."""

    garbage: tuple[Judged, ...]
    kept: tuple[Judged, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of all that may go."""
        return sum(judged.found.size_bytes for judged in self.garbage)


def judge(files: Iterable[Found], needs: Needs, *, now: float, older_than_s: float = WEEK_S) -> Verdict:
    """Tell garbage from what stays; what an installed model uses is told as neither.

    A file from the future (a clock that was set back) counts as new.
    """
    garbage: list[Judged] = []
    kept: list[Judged] = []
    for found in files:
        if found.names & needs.used:
            continue
        age_s = max(0.0, now - found.changed_at)
        if is_at_work(found, needs):
            kept.append(Judged(found, age_s, "a job works on it"))
        elif age_s < older_than_s:
            kept.append(Judged(found, age_s, f"younger than {format_age(older_than_s)}"))
        else:
            garbage.append(Judged(found, age_s, _WHY[found.kind]))
    return Verdict(_largest_first(garbage), _largest_first(kept))


def is_at_work(found: Found, needs: Needs) -> bool:
    """Whether an unfinished job may need it."""
    return bool(found.names & needs.at_work) or (needs.any_part and found.kind in ("part", "model"))


_WHY: dict[Kind, str] = {
    "model": "no installed model refers to it",
    "part": "an incomplete download that no job goes on with",
    "link": "a link that leads nowhere",
    "prefix": "a saved prompt that was not used for long",
    "temporary": "left over when writing was cut short",
}


def _largest_first(judged: Sequence[Judged]) -> tuple[Judged, ...]:
    return tuple(sorted(judged, key=lambda one: (-one.found.size_bytes, str(one.found.path))))
