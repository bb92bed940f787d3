"""What the daemon's doctor finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: ``verdict`` is ok, warning, problem, or unknown where it could not be found out.

    ``evidence`` are the numbers it rests on, by name with their units; ``remedy`` says what to do.
    """

    check: str
    verdict: str
    title: str = ""
    summary: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    remedy: str | None = None
    took_s: float | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """All checks; ``verdict`` is the worst of them, ``counts`` says how often each was given, ``checked_at`` is unix
    seconds.
    """

    verdict: str
    checks: tuple[Finding, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    checked_at: float | None = None
    took_s: float | None = None
