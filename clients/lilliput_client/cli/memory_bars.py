"""Memory needs drawn against budgets; the parts differ in sign as well as in colour."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from rich.text import Text

from lilliput_client import Need, Plan, Variant
from lilliput_client.cli import formats

_CELLS = 24
_MOST_OVER = 1.5
"""A bar reaches this much beyond the budget at most; a need that is larger ends in ``>``."""

_PARTS = (
    ("weights", "weights", "█", "#", "cyan"),
    ("kv", "KV cache", "▓", "=", "magenta"),
    ("compute", "compute", "▒", "+", "yellow"),
    ("overhead", "overhead", "░", "o", "blue"),
)
_FREE = ("·", ".")
_EDGE = ("│", "|")


@dataclass(frozen=True, slots=True)
class Scale:
    """What the whole width of the bars of one memory stands for, and where in it the budget ends."""

    full_bytes: float
    budget_bytes: int

    @property
    def edge(self) -> int:
        """The cell before which the budget ends."""
        return round(_CELLS * self.budget_bytes / self.full_bytes)


def scales(plan: Plan) -> dict[str, Scale]:
    """One scale for all variants on each memory with a budget, so that their bars can be compared."""
    found = {}
    for name, budget in plan.budget.items():
        if budget.budget_bytes:
            most = max((needs(variant).get(name, Need()).total_bytes for variant in plan.variants), default=0)
            full = max(budget.budget_bytes, min(most, budget.budget_bytes * _MOST_OVER))
            found[name] = Scale(full, budget.budget_bytes)
    return found


def needs(variant: Variant) -> dict[str, Need]:
    """What is taken of each memory, without those of which nothing is; a total without parts counts as weights."""
    if not variant.need and variant.total_bytes:
        return {"ram": Need(weights=variant.total_bytes)}
    return {name: need for name, need in variant.need.items() if need.total_bytes}


def bars(variant: Variant, by_name: dict[str, Scale], *, fancy: bool) -> Iterator[tuple[str, Text]]:
    """The variant's bars with the memories they are of; a bar of an unknown budget is a dash."""
    for name, need in needs(variant).items():
        scale = by_name.get(name)
        yield name, Text(formats.UNKNOWN) if scale is None else bar(need, scale, fancy=fancy)


def bar(need: Need, scale: Scale, *, fancy: bool) -> Text:
    """A need by its parts, what is free of the budget, the budget's end, and the share that is needed."""
    cells: list[tuple[str, str]] = []
    reached = 0
    for part, _, sign, plain, style in _PARTS:
        reached += getattr(need, part)
        end = min(_CELLS, round(_CELLS * reached / scale.full_bytes))
        cells += [(sign if fancy else plain, style)] * (end - len(cells))
    edge = scale.edge
    free = _FREE[0 if fancy else 1]
    cells += [(free if cell < edge else " ", "dim") for cell in range(len(cells), _CELLS)]
    drawn = Text()
    marked = [*cells[:edge], (_EDGE[0 if fancy else 1], "bold"), *cells[edge:]]
    for (_, style), run in groupby(marked):
        drawn.append("".join(sign for sign, _ in run), style)
    drawn.append(">" if need.total_bytes > scale.full_bytes else " ", "red")
    share = f"{need.total_bytes / scale.budget_bytes:.0%}"
    return drawn.append(f"{share:>5}", "red" if need.total_bytes > scale.budget_bytes else "")


def legend(*, fancy: bool) -> Text:
    """What the signs of the bars mean."""
    drawn = Text()
    for _, name, sign, plain, style in _PARTS:
        drawn.append(sign if fancy else plain, style).append(f" {name}   ")
    return drawn.append(_EDGE[0 if fancy else 1], "bold").append(" budget   ")
