"""A plan for people: the memory there is, a table with a bar for each variant, the reasons, what to do next."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from lilliput_client import Budget, LilliputClientError, LoadWanted, Plan, Setting, Variant
from lilliput_client.cli import formats
from lilliput_client.cli.memory_bars import bars, legend, needs, scales
from lilliput_client.cli.next_steps import force, is_here, take
from lilliput_client.cli.output import Cell, facts, table

_ANY_WIDTH = 10_000


def print_plan(plan: Plan, out: Console, *, next_step: str | None = None) -> None:
    """Print what was planned for and each variant's judgement; ``next_step`` is the command to type then."""
    fancy = "utf" in out.encoding
    out.print(_conditions(plan))
    for line in budget_lines(plan):
        out.print(line)
    out.print()
    wide = _numbers(plan, fancy=fancy, with_bars=True)
    if _fits_in(wide, out):
        out.print(wide)
    else:
        narrow = _numbers(plan, fancy=fancy, with_bars=False)
        out.print(narrow if _fits_in(narrow, out) else _numbers(plan, fancy=fancy, with_bars=False, gap=1))
        out.print()
        out.print(_bars(plan, fancy=fancy))
    _print_legend(plan, out, fancy=fancy)
    out.print()
    out.print(facts((variant.name, "; ".join(_remarks(variant))) for variant in plan.variants))
    _print_end(plan, out, next_step)


def does_not_fit(plan: Plan, wanted: LoadWanted | None = None) -> LilliputClientError:
    """The error of a plan in which nothing was chosen of what was ``wanted``."""
    known = [variant for variant in plan.variants if variant.total_bytes and variant.exists]
    if not known:
        reason = next((variant.reason for variant in plan.variants if variant.reason), None)
        return LilliputClientError(
            f"no variant of {plan.model} can be loaded" + (f": {reason}" if reason else ""),
            code="does-not-fit",
            hint="take another variant, file or repository, or leave out what cannot be set up",
        )
    fitting = [variant for variant in known if variant.fits]
    if fitting:
        return LilliputClientError(
            f"no variant of {plan.model} will do: {plan.summary or fitting[0].reason or fitting[0].name}",
            code="does-not-fit",
            hint=f"to have it all the same: {_all_the_same(plan, fitting[0], wanted)}; or take another use case",
        )
    return LilliputClientError(
        f"no variant of {plan.model} fits: {plan.summary or known[-1].reason}",
        code="does-not-fit",
        hint=_way_out(plan, known, wanted),
    )


def budget_lines(plan: Plan) -> Iterator[Text]:
    """Each memory's budget, what decides it, and the numbers it is made of."""
    for name, budget in plan.budget.items():
        label = "memory budget" if len(plan.budget) == 1 else f"budget of {name}"
        because = f" ({budget.because})" if budget.because else ""
        yield Text(f"{label} {formats.size(budget.budget_bytes)}{because}")
        sums = _sums(budget)
        if sums:
            yield Text(f"  {sums}", style="dim")


def _sums(budget: Budget) -> str:
    parts = []
    if budget.available_bytes is not None:
        less = (("reserve", budget.reserve_bytes), ("promised", budget.promised_bytes))
        parts.append(
            f"{formats.size(budget.available_bytes)} available"
            + "".join(f" - {formats.size(count)} {what}" for what, count in less if count is not None)
        )
    if budget.total_bytes is not None and budget.use_fraction is not None:
        parts.append(f"{budget.use_fraction:.0%} of {formats.size(budget.total_bytes)}")
    if budget.limit_bytes is not None:
        parts.append(f"limit {formats.size(budget.limit_bytes)}")
    return "; ".join(parts)


def _all_the_same(plan: Plan, variant: Variant, wanted: LoadWanted | None) -> str:
    """To pull a variant below the floor it is enough to name it; one that is installed is loaded by force."""
    return (force if is_here(variant) else take)(plan, variant, wanted)


def _way_out(plan: Plan, known: list[Variant], wanted: LoadWanted | None) -> str:
    """What would help: the near miss of the lightest variant that has one, and what always does."""
    close = next(
        (f"{variant.name} {variant.near_misses[0]}; " for variant in reversed(known) if variant.near_misses), ""
    )
    if plan.machine.described:
        return f"{close}take a smaller model or context, or a larger machine"
    return f"{close}take a smaller model or context, free memory, or force it: {force(plan, known[-1], wanted)}"


def _conditions(plan: Plan) -> Text:
    parts = [plan.model]
    if plan.context_tokens:
        parts.append(f"at {plan.context_tokens} tokens of context")
    if plan.slots and plan.slots > 1:
        parts.append(f"for {plan.slots} requests at once")
    if plan.machine.described:
        parts.append(f"on {plan.machine.described}")
    return Text(" ".join(parts), style="bold")


def _fits_in(drawn: Table, out: Console) -> bool:
    return Measurement.get(out, out.options.update_width(_ANY_WIDTH), drawn).maximum <= out.width


def _numbers(plan: Plan, *, fancy: bool, with_bars: bool, gap: int = 2) -> Table:
    """One row a variant; with ``with_bars`` a bar in each, with a line for each memory."""
    accelerated = len(plan.budget) > 1
    headers = ["", "VARIANT", "SIZE", "NEEDS", "CTX", "KV"]
    headers += ["GPU"] if accelerated else []
    headers += ["TOKENS/S", "KLD", "DPPL", "FITS"]
    headers += ["OF THE BUDGET"] if with_bars else []
    by_name = scales(plan)
    rows = []
    for variant in plan.variants:
        row = [*_identity(variant, plan), *_setting(variant.setting)]
        row += [_layers(variant)] if accelerated else []
        row += [*_worth(variant, plan), _verdict(variant)]
        if with_bars:
            drawn = [_labelled(*one, accelerated=accelerated) for one in bars(variant, by_name, fancy=fancy)]
            row += [Text("\n").join(drawn) if drawn else formats.UNKNOWN]
        rows.append(row)
    last = len(headers) - (2 if with_bars else 1)
    right = [index for index in range(2, last) if headers[index] != "KV"]
    return table(headers, rows, right=right, whole=[index for index in range(len(headers)) if index != 1], gap=gap)


def _labelled(name: str, drawn: Text, *, accelerated: bool) -> Text:
    return Text(f"{name:<8} ").append_text(drawn) if accelerated else drawn


def _bars(plan: Plan, *, fancy: bool) -> Table:
    by_name = scales(plan)
    rows: list[tuple[Cell, ...]] = []
    for variant in plan.variants:
        mark, name, *_ = _identity(variant, plan)
        for memory, drawn in bars(variant, by_name, fancy=fancy):
            rows.append((mark, name, memory, drawn))
            mark = name = Text("")
    return table(("", "VARIANT", "MEMORY", "OF THE BUDGET"), rows, whole=(0, 2, 3), gap=2)


def _identity(variant: Variant, plan: Plan) -> tuple[Cell, Cell, Cell, Cell]:
    chosen = variant.name == plan.chosen
    name = variant.name if variant.exists else f"({variant.name})"
    total = formats.size(variant.total_bytes or None)
    return (
        Text("*" if chosen else "", style="bold green"),
        Text(name, style="bold" if chosen else ""),
        formats.size(variant.file_bytes),
        f"~{total}" if variant.estimated else total,
    )


def _setting(setting: Setting | None) -> tuple[str, str]:
    if setting is None:
        return formats.UNKNOWN, formats.UNKNOWN
    return formats.text(setting.context_tokens), formats.text(setting.kv_type)


def _layers(variant: Variant) -> str:
    if variant.setting is None or variant.offload is None:
        return formats.UNKNOWN
    return {"full": "all", "none": "none"}.get(variant.offload, str(variant.setting.gpu_layers))


def _worth(variant: Variant, plan: Plan) -> tuple[str, str, str]:
    quality = variant.quality
    if quality is None:
        return formats.speed(variant.tokens_per_s), formats.UNKNOWN, formats.UNKNOWN
    guess = "~" if _has_measured(plan) and not quality.measured and quality.kld is not None else ""
    kld = guess + formats.divergence(quality.kld)
    return formats.speed(variant.tokens_per_s), kld, formats.rise(quality.dppl_percent)


def _has_measured(plan: Plan) -> bool:
    """Whether some losses are of these very files, so that those by type have to be told from them."""
    return any(one.quality is not None and one.quality.measured for one in plan.variants)


def _verdict(variant: Variant) -> Text:
    return Text("yes", style="green") if variant.fits else Text("no", style="red")


def _print_legend(plan: Plan, out: Console, *, fancy: bool) -> None:
    """What the bars' and the table's signs mean, on two lines where one is too short."""
    parts, signs = legend(fancy=fancy), Text(_signs(plan))
    if parts.cell_len + signs.cell_len <= out.width:
        out.print(parts.append_text(signs))
    else:
        out.print(parts)
        out.print(signs)


def _signs(plan: Plan) -> str:
    signs = ["* taken"]
    if any(not variant.exists for variant in plan.variants):
        signs.append("( ) not published")
    if any(variant.estimated for variant in plan.variants) or _has_measured(plan):
        signs.append("~ estimated")
    return "   ".join(signs)


def _remarks(variant: Variant) -> Iterator[str]:
    """Everything that is to be said of a variant in words."""
    yield formats.text(variant.reason)
    yield from variant.near_misses
    if variant.setting is not None and variant.setting.cpu_expert_layers:
        yield f"the experts of {variant.setting.cpu_expert_layers} layers stay in system memory"
    if variant.estimated and variant.margin_bytes:
        yield f"give or take {formats.size(variant.margin_bytes)}"
    if len(needs(variant)) > 1:
        yield ", ".join(f"{formats.size(need.total_bytes)} of {name}" for name, need in needs(variant).items())


def _print_end(plan: Plan, out: Console, next_step: str | None) -> None:
    summary = None if plan.chosen else plan.summary
    ends = [
        ("objective", plan.objective),
        ("summary", summary),
        *(("note", note) for note in plan.notes),
        ("next", next_step),
    ]
    told = [(name, text) for name, text in ends if text]
    if told:
        out.print()
        out.print(facts(told))
