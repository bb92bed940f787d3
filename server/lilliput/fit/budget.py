"""How much memory a model may use, each part kept so that it can be shown."""

from __future__ import annotations

from dataclasses import dataclass

from lilliput.hardware import Memory
from lilliput.units import format_bytes


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be used of a device's memory, and why not more; ``limit_bytes`` is None without a limit.

    ``promised_bytes`` are reserved by engines but not yet touched, so that the system still counts them as available.
    ``held_bytes`` is all that engines hold or were promised: it counts against the fraction of the total and the limit.
    Where ``measured_now`` is False, ``available_bytes`` is what would be there without engines and tells nothing of
    what they have taken: all of it counts as promised.
    """

    total_bytes: int
    available_bytes: int
    reserve_bytes: int
    use_fraction: float
    limit_bytes: int | None = None
    promised_bytes: int = 0
    measured_now: bool = True
    held_bytes: int = 0

    @property
    def budget_bytes(self) -> int:
        """The smallest of: available less promises and reserve, a fraction of the total, the limit. Never below 0."""
        return max(0, min(self._bounds()))

    @property
    def because(self) -> str:
        """Which part decides, in words and numbers."""
        free, share, *limit = self._bounds()
        if limit and limit[0] <= min(free, share):
            return f"the limit set is {format_bytes(self.limit_bytes or 0)}{self._less_held()}"
        if share < free:
            return f"{self.use_fraction:.0%} of {format_bytes(self.total_bytes)}{self._less_held()}"
        less = f"{format_bytes(self.available_bytes)} available less {format_bytes(self.reserve_bytes)} in reserve"
        return f"{less} and {format_bytes(self.promised_bytes)} promised to engines" if self.promised_bytes else less

    def _less_held(self) -> str:
        return f" less {format_bytes(self.held_bytes)} of loaded engines" if self.held_bytes else ""

    def _bounds(self) -> list[int]:
        free = self.available_bytes - self.promised_bytes - self.reserve_bytes
        bounds = [free, int(self.total_bytes * self.use_fraction) - self.held_bytes]
        return bounds if self.limit_bytes is None else [*bounds, self.limit_bytes - self.held_bytes]


def make_budget(
    memory: Memory,
    *,
    reserve_bytes: int,
    use_fraction: float = 0.8,
    limit_bytes: int | None = None,
    promised_bytes: int = 0,
    held_bytes: int = 0,
) -> Budget:
    """The budget on a machine with this memory; ``use_fraction`` of the total (0 to 1) is the most that is used."""
    return Budget(
        total_bytes=memory.total_bytes,
        available_bytes=memory.available_bytes,
        reserve_bytes=reserve_bytes,
        use_fraction=use_fraction,
        limit_bytes=limit_bytes,
        promised_bytes=promised_bytes,
        held_bytes=held_bytes,
    )
