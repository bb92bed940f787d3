"""Whose turn it is among callers who wait in one line. Pure: values in, a place out.

The line goes in rounds: the first request that each caller has in it, then the second of each, and so on. So one who
sends many at once keeps others waiting for one of them, not for all. A place is found once, when a request comes;
nobody is moved later.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

_T = TypeVar("_T")


class Waiting(Protocol):
    """One who waits."""

    @property
    def caller(self) -> str:
        """Who asked."""
        ...

    @property
    def rank(self) -> float:
        """The lower, the sooner its turn."""
        ...


def place(callers: Sequence[str], caller: str) -> int:
    """Where the next request of ``caller`` goes in a line of requests of these ``callers``: how many are before it.

    Behind all of its own, and behind as many of each other caller as it has itself, or one more where they came first.
    """
    rounds: Counter[str] = Counter()
    own = sum(1 for one in callers if one == caller)
    found = 0
    for index, one in enumerate(callers):
        rounds[one] += 1
        if rounds[one] <= own + 1:
            found = index + 1
    return found


def fair_rank(line: Sequence[Waiting], caller: str, rank: float) -> float:
    """The rank of the next request of ``caller``; ``line`` are those of its priority that wait, in order.

    At the end of the line it is ``rank``, that of its time of arrival, and higher than all others; so it always is
    where nobody else waits. Before the end it is the rank of the one that it comes after: of equals the latest goes
    last.
    """
    before = place([one.caller for one in line], caller)
    if before == len(line):
        return rank if not line else max(rank, math.nextafter(line[-1].rank, math.inf))
    return line[before - 1].rank


def in_turns(line: Iterable[_T], caller_of: Callable[[_T], str]) -> list[_T]:
    """The line in rounds: the first of each caller, then the second of each; of one caller alone as it is."""
    rounds: Counter[str] = Counter()
    numbered: list[tuple[int, _T]] = []
    for one in line:
        rounds[caller_of(one)] += 1
        numbered.append((rounds[caller_of(one)], one))
    return [one for _, one in sorted(numbered, key=lambda pair: pair[0])]
