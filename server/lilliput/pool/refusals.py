"""What is told when there is no room."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lilliput.errors import Busy, DoesNotFit
from lilliput.fit import MemoryNeed
from lilliput.pool.policy import Holding, fits
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


PINNED_RETRY_S = 60.0


def refuse_beside_lasting(who: str, others: Iterable[Holding]) -> None:
    """Raise Busy where an engine that stays excludes ``who``."""
    staying = [one.name for one in others if one.rival and one.lasting]
    if staying:
        raise Busy(
            f"{who} may not be in memory together with {' and '.join(staying)}, which is pinned",
            retry_after_s=PINNED_RETRY_S,
            hint=f"lilliput unpin {staying[0]}, or take one of them out of exclusive_groups",
        )
