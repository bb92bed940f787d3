"""What engines gave up because memory was short, and what they got back: each step with its numbers."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

log = logging.getLogger(__name__)

StepKind = Literal["less", "refused", "stand-in", "drop", "evict", "step-down", "stuck", "climb"]
"""A load took less than the one that failed, or there was none smaller; a smaller variant was taken; prefixes were
dropped, an idle engine ended, a busy one was to take less, nothing was left to give; one is loaded as planned again."""

KEPT = 32


@dataclass(frozen=True, slots=True)
class Step:
    """One step; ``at`` in unix seconds, bytes are what was held before it and is after, None where nobody knows."""

    at: float
    kind: StepKind
    engine: str
    text: str
    before_bytes: int | None = None
    after_bytes: int | None = None


class Steps:
    """The latest steps, and how many there were of each kind and engine."""

    def __init__(self) -> None:
        self._latest: deque[Step] = deque(maxlen=KEPT)
        self._counts: Counter[tuple[str, str]] = Counter()

    def note(
        self,
        kind: StepKind,
        engine: str,
        text: str,
        *,
        before_bytes: int | None = None,
        after_bytes: int | None = None,
    ) -> None:
        """A step was taken: the log says so, too."""
        self._latest.append(Step(time.time(), kind, engine, text, before_bytes, after_bytes))
        self._counts[kind, engine] += 1
        facts = {"step": kind, "before_bytes": before_bytes, "after_bytes": after_bytes}
        level = logging.INFO if kind == "climb" else logging.WARNING
        log.log(level, "%s: %s", engine, text, extra={name: fact for name, fact in facts.items() if fact is not None})

    @property
    def latest(self) -> tuple[Step, ...]:
        """The latest, the newest last."""
        return tuple(self._latest)

    @property
    def counts(self) -> Mapping[tuple[str, str], int]:
        """How often each kind was taken by each engine."""
        return self._counts
