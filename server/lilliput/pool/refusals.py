"""What is told when there is no room."""

from __future__ import annotations

from collections.abc import Mapping

from lilliput.errors import DoesNotFit
from lilliput.fit import MemoryNeed
from lilliput.pool.policy import fits
from lilliput.units import format_bytes


def does_not_fit(
    who: str, needs: Mapping[str, MemoryNeed], room: Mapping[str, int], how: str, *, hint: str
) -> DoesNotFit:
    """The error for ``who``, which needs more than there is room; ``how`` says what was counted with."""
    short = [name for name, need in needs.items() if not fits({name: need}, room)]
    wanted = " and ".join(f"{format_bytes(needs[name].total_bytes)} of {name}" for name in short)
    usable = " and ".join(format_bytes(max(0, room.get(name, 0))) for name in short)
    return DoesNotFit(
        f"{who} needs {wanted}{how}; {usable} can be used",
        need_bytes=sum(needs[name].total_bytes for name in short),
        budget_bytes=sum(max(0, room.get(name, 0)) for name in short),
        hint=hint,
    )
