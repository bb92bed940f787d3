"""What the doctor says: one opinion a check, and all of them together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

Verdict = Literal["ok", "warning", "problem", "unknown"]
Evidence = Mapping[str, str | int | float | bool | Sequence[str] | None]


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one check found: a sentence with the numbers that decided, all numbers by name with their units, and what
    to do about it, None where nothing is to be done.
    """

    verdict: Verdict
    summary: str
    evidence: Evidence = field(default_factory=dict)
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """An opinion with the name of its check and the time it took."""

    check: str
    title: str
    verdict: Verdict
    summary: str
    evidence: Evidence
    remedy: str | None
    took_s: float


@dataclass(frozen=True, slots=True)
class Report:
    """All findings; ``verdict`` is the worst of them (unknown only where nothing could be found out)."""

    verdict: Verdict
    counts: Mapping[str, int]
    checks: tuple[Finding, ...]
    checked_at: float
    took_s: float


def report(findings: Sequence[Finding], checked_at: float, took_s: float) -> Report:
    """Sum the findings up; ``checked_at`` is unix seconds."""
    found = Counter(finding.verdict for finding in findings)
    worst: Verdict = next((one for one in _WORST_FIRST if found[one]), "unknown")
    return Report(worst, {one: found[one] for one in get_args(Verdict)}, tuple(findings), checked_at, took_s)


_WORST_FIRST: tuple[Verdict, ...] = ("problem", "warning", "ok")


def percent(share: float) -> str:
    """``"83%"`` of 0.83."""
    return f"{100 * share:.0f}%"
