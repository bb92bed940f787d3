"""Which engines must go so that another fits. Pure: values in, decision out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lilliput.fit import Budget, MemoryNeed

RESIDENCE = 4.0
"""So many times as long as its load took an engine stays when models are asked for in turn again and again: at most a
fifth of the time goes into loads then."""

_LEAST_S = 1e-3
"""Shorter times are as good as this one, so that every engine has a worth."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What an engine holds on each device; ``idle`` ones may be evicted. ``last_used_s`` on any clock that only grows.

    ``touched`` is the part of it, in bytes by device, that is already missing from what the system calls available.
    ``reload_s`` is how long it took to load; before ``stays_until_s`` it is not evicted for another load. One that is
    ``lasting`` does not go, however long others wait. A ``rival`` must go for the load that asks, even where memory
    would do for both.
    """

    name: str
    needs: Mapping[str, MemoryNeed]
    idle: bool
    last_used_s: float
    touched: Mapping[str, int] = field(default_factory=dict)
    reload_s: float = 1.0
    stays_until_s: float = 0.0
    lasting: bool = False
    rival: bool = False

    def worth(self, now_s: float) -> float:
        """What keeping it saves: seconds of loading by byte held, and by second that nobody wanted it.

        The cost and size of GreedyDual-Size (Cao and Irani, 1997), aged by the time since its last use.
        """
        size = sum(need.total_bytes for need in self.needs.values())
        return max(self.reload_s, _LEAST_S) / (max(now_s - self.last_used_s, _LEAST_S) * max(size, 1))

    def promised_bytes(self, device: str, *, measured_now: bool = True) -> int:
        """What it may still take: memory-mapped weights, which count as available, and what it has not touched yet.

        All that it holds where what is available was not measured now (see ``Budget``).
        """
        need = self.needs.get(device)
        touched = self.touched.get(device, 0) if measured_now else 0
        return 0 if need is None else max(0, need.total_bytes - touched)

    def held_bytes(self, device: str) -> int:
        """All that it holds or was promised on a device."""
        need = self.needs.get(device)
        return 0 if need is None else need.total_bytes


def rooms(budgets: Mapping[str, Budget], holdings: Iterable[Holding]) -> dict[str, int]:
    """Bytes another engine may take, by device: never negative only where the engines that live stay within bounds.

    What they were promised is taken off what is available. The whole of every engine counts against the share of the
    machine and against a set limit.
    """
    held = tuple(holdings)
    return {name: _room(budget, name, held) for name, budget in budgets.items()}


def _room(budget: Budget, device: str, holdings: Sequence[Holding]) -> int:
    promised = sum(holding.promised_bytes(device, measured_now=budget.measured_now) for holding in holdings)
    whole = sum(holding.held_bytes(device) for holding in holdings)
    bounds = [
        budget.available_bytes - budget.reserve_bytes - promised,
        int(budget.total_bytes * budget.use_fraction) - whole,
    ]
    if budget.limit_bytes is not None:
        bounds.append(budget.limit_bytes - whole)
    return min(bounds)


def fits(needs: Mapping[str, MemoryNeed], room: Mapping[str, int]) -> bool:
    """Whether every device has the room; one without a budget has none."""
    return all(need.total_bytes <= room.get(device, 0) for device, need in needs.items())


def evictions(
    needs: Mapping[str, MemoryNeed], room: Mapping[str, int], holdings: Sequence[Holding], now_s: float
) -> tuple[str, ...] | None:
    """Names of idle engines to end until ``needs`` fit, rivals and then those of least worth first; None when even all
    do not help, or a rival cannot go.

    None of them is ended in vain: each is a rival, or makes room that is needed.
    """
    idle = [one for one in holdings if one.idle and one.stays_until_s <= now_s]
    chosen = [one for one in idle if one.rival]
    if len(chosen) < sum(one.rival for one in holdings):
        return None
    for holding in sorted((one for one in idle if not one.rival), key=lambda one: one.worth(now_s)):
        if fits(needs, freed(room, chosen)):
            break
        chosen.append(holding)
    if not fits(needs, freed(room, chosen)):
        return None
    for holding in reversed(chosen[:]):  # a large one at the end may have made the small ones before it needless
        others = [one for one in chosen if one is not holding]
        if not holding.rival and fits(needs, freed(room, others)):
            chosen = others
    return tuple(one.name for one in chosen)


def idle_ones(holdings: Iterable[Holding], now_s: float) -> tuple[str, ...]:
    """Names of all that are idle, those of least worth first."""
    return tuple(one.name for one in sorted(holdings, key=lambda one: one.worth(now_s)) if one.idle)


def to_drain(
    needs: Mapping[str, MemoryNeed], room: Mapping[str, int], holdings: Sequence[Holding], now_s: float
) -> tuple[str, ...] | None:
    """Names of engines, busy or not, that must go for ``needs``, when their answers have ended; None when all that may
    ever go do not help.
    """
    return evictions(needs, room, [replace(one, idle=not one.lasting) for one in at_once(holdings)], now_s)


def are_rivals(groups: Iterable[Collection[str]], one: str, other: str) -> bool:
    """Whether two models may not be in memory together, because some group has both.

    A name in a group stands for its variants, too: ``llama3.1:8b`` for ``llama3.1:8b-q4_k_m``.
    """
    return one != other and any(_in_group(one, group) and _in_group(other, group) for group in groups)


def _in_group(model: str, group: Collection[str]) -> bool:
    name = model.lower()
    return any(name == one or name.startswith((f"{one}-", f"{one}:")) for one in (entry.lower() for entry in group))


def at_once(holdings: Iterable[Holding]) -> tuple[Holding, ...]:
    """The same, without regard to how long ago they were loaded."""
    return tuple(replace(one, stays_until_s=0.0) for one in holdings)


def freed(room: Mapping[str, int], holdings: Iterable[Holding]) -> dict[str, int]:
    """The room when these engines have ended."""
    left = dict(room)
    for holding in holdings:
        for device, need in holding.needs.items():
            left[device] = left.get(device, 0) + need.total_bytes
    return left
