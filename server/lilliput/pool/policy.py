"""Which engines must go so that another fits. Pure: values in, decision out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lilliput.fit import Budget, MemoryNeed


@dataclass(frozen=True, slots=True)
class Holding:
    """What an engine holds; ``idle`` ones may be evicted. ``last_used_s`` on any clock that only grows."""

    name: str
    need: MemoryNeed
    idle: bool
    last_used_s: float


def room_bytes(budget: Budget, holdings: Iterable[Holding]) -> int:
    """Bytes another engine may take.

    Loaded weights are memory-mapped: the system calls them available although they are in use, so they are taken off
    what is available. The whole of every engine counts against the share of the machine and against a set limit.
    """
    needs = [holding.need for holding in holdings]
    held = sum(need.total_bytes for need in needs)
    mapped = sum(need.weights_bytes for need in needs)
    bounds = [
        budget.available_bytes - budget.reserve_bytes - mapped,
        int(budget.total_bytes * budget.use_fraction) - held,
    ]
    if budget.limit_bytes is not None:
        bounds.append(budget.limit_bytes - held)
    return min(bounds)


def evictions(need_bytes: int, room: int, holdings: Sequence[Holding]) -> tuple[str, ...] | None:
    """Names of idle engines to end, longest unused first, until ``need_bytes`` fit; None when even all do not help."""
    names: list[str] = []
    for holding in sorted((one for one in holdings if one.idle), key=lambda one: one.last_used_s):
        if room >= need_bytes:
            break
        names.append(holding.name)
        room += holding.need.total_bytes
    return tuple(names) if room >= need_bytes else None
