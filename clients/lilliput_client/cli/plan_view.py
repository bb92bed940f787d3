"""A plan as a table with a memory bar for each variant."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from lilliput_client import LilliputClientError, Plan, Variant
from lilliput_client.cli import formats
from lilliput_client.cli.output import Cell, facts, table

_BAR_CELLS = 24
_PARTS = (("weights", "█", "#", "cyan"), ("kv", "▓", "=", "magenta"), ("rest", "▒", "+", "yellow"))


def print_plan(plan: Plan, out: Console) -> None:
    """Print what was planned for, the memory there is, each variant with its need, and why it is taken or not."""
    out.print(_conditions(plan))
    out.print(_memory(plan))
    out.print()
    headers = ("", "VARIANT", "SIZE", "NEEDS", "OF THE BUDGET", "FITS")
    fancy = "utf" in out.encoding
    rows = [_row(variant, plan, fancy=fancy) for variant in plan.variants]
    out.print(table(headers, rows, right=(2, 3)))
    out.print(_legend(fancy=fancy))
    out.print()
    out.print(facts((variant.name, formats.text(variant.reason)) for variant in plan.variants))


def does_not_fit(plan: Plan) -> LilliputClientError:
    """The error of a plan in which nothing was chosen."""
    needs = [variant.total_bytes for variant in plan.variants if variant.total_bytes is not None]
    if not needs:
        return LilliputClientError(f"{plan.model} has no variant to choose from", code="does-not-fit")
    return LilliputClientError(
        f"no variant of {plan.model} fits: the smallest needs {formats.size(min(needs))}, "
        f"the budget is {formats.size(plan.budget.budget_bytes)}",
        code="does-not-fit",
        hint="take a smaller model or context, free memory, or load it anyway with --force",
    )


def _conditions(plan: Plan) -> Text:
    parts = [plan.model]
    if plan.context_tokens:
        parts.append(f"at {plan.context_tokens} tokens of context")
    if plan.slots and plan.slots > 1:
        parts.append(f"for {plan.slots} requests at once")
    return Text(" ".join(parts), style="bold")


def _memory(plan: Plan) -> Text:
    budget = plan.budget
    known = (
        ("available", budget.available_bytes),
        ("kept free", budget.reserve_bytes),
        ("limit", budget.limit_bytes),
        ("in the machine", budget.total_bytes),
    )
    details = ", ".join(f"{formats.size(count)} {name}" for name, count in known if count is not None)
    why = budget.because or details
    return Text(f"memory budget {formats.size(budget.budget_bytes)}" + (f" ({why})" if why else ""))


def _row(variant: Variant, plan: Plan, *, fancy: bool) -> tuple[Cell, ...]:
    chosen = variant.name == plan.chosen
    style = "bold" if chosen else ""
    return (
        Text("*" if chosen else "", style="bold green"),
        Text(variant.name, style=style),
        formats.size(variant.file_bytes),
        formats.size(variant.total_bytes),
        memory_bar(variant, plan.budget.budget_bytes, fancy=fancy),
        Text("yes", style="green") if variant.fits else Text("no", style="red"),
    )


def memory_bar(variant: Variant, budget_bytes: int | None, *, fancy: bool = True) -> Text:
    """The variant's need as a part of the budget, by purpose; a need beyond the budget ends in ``>``."""
    parts = _by_purpose(variant)
    total = sum(parts.values()) or variant.total_bytes
    if not budget_bytes or not total:
        return Text(formats.UNKNOWN)
    scale = _BAR_CELLS / max(budget_bytes, total)
    bar = Text()
    filled = 0
    reached = 0
    for name, sign, plain, style in _PARTS:
        reached += parts.get(name, 0)
        cells = round(reached * scale) - filled
        filled += cells
        bar.append((sign if fancy else plain) * cells, style)
    bar.append(("░" if fancy else ".") * (_BAR_CELLS - filled), "dim")
    bar.append(">" if total > budget_bytes else " ", "red")
    bar.append(f" {total / budget_bytes:.0%}")
    return bar


def _by_purpose(variant: Variant) -> dict[str, int]:
    needs = variant.need.values()
    if not needs:
        return {"weights": variant.total_bytes or 0}
    return {
        "weights": sum(need.weights for need in needs),
        "kv": sum(need.kv for need in needs),
        "rest": sum(need.compute + need.overhead for need in needs),
    }


def _legend(*, fancy: bool) -> Text:
    names = {"weights": "weights", "kv": "context", "rest": "compute and overhead"}
    legend = Text()
    for name, sign, plain, style in _PARTS:
        legend.append(sign if fancy else plain, style)
        legend.append(f" {names[name]}   ")
    return legend.append("* taken")
