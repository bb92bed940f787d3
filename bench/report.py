"""The results for people and programs: tables on the terminal, a JSON document, the chart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.chart import draw, shown
from bench.judge import Sample, Spread, Verdict, spread
from bench.run import Results
from bench.workloads import Workload

_COLUMNS = {
    "tokens_s": "tokens/s",
    "worker_tokens_s": "in worker",
    "ttft_p50_s": "TTFT p50 s",
    "ttft_p99_s": "TTFT p99 s",
    "worst_gap_s": "worst gap s",
    "failures": "failed",
}
_STYLES = {"aim": "bold green", "floor": "green", "missed": "bold red", "not measured": "dim"}
FORMAT = 1


def print_figures(console: Console, workloads: Sequence[Workload], samples: Sequence[Sample]) -> None:
    """One line for each contestant of each workload: medians."""
    table = Table("", "who", *_COLUMNS.values(), title="Medians of all rounds", title_justify="left")
    for workload in workloads:
        of_this = [one for one in samples if one.workload == workload.key]
        for label in dict.fromkeys(one.label for one in of_this):
            cells = [_median([one for one in of_this if one.label == label], name) for name in _COLUMNS]
            table.add_row(workload.key, label, *cells)
    console.print(table)


def print_verdicts(console: Console, verdicts: Sequence[Verdict]) -> None:
    """One line for each rule: median and spread of its pairs, floor, aim, and what that means."""
    table = Table("measure", "median", "least … largest", "pairs", "floor", "aim", "verdict", title_justify="left")
    table.title = "Promises"
    for verdict in verdicts:
        rule, value = verdict.rule, verdict.value
        sign = "≥" if rule.at_least else "≤"
        told = (
            (shown(value.median), f"{shown(value.low)} … {shown(value.high)}", str(value.count)) if value else ("",) * 3
        )
        limits = (f"{sign} {shown(rule.floor)}", f"{sign} {shown(rule.aim)}")
        table.add_row(rule.title, *told, *limits, f"[{_STYLES[verdict.state]}]{_outcome(verdict)}[/]")
    console.print(table)


def _outcome(verdict: Verdict) -> str:
    """PASS or MISS; an aim is worth a word where it asks for more than the floor."""
    match verdict.state:
        case "missed":
            return f"MISS by {shown(verdict.short_by)}"
        case "aim" if verdict.rule.aim != verdict.rule.floor:
            return "PASS, aim reached"
        case "aim" | "floor":
            return "PASS"
        case "not measured":
            return verdict.state


def document(
    about: Mapping[str, Any], results: Results, verdicts: Sequence[Verdict], workloads: Sequence[Workload]
) -> dict[str, Any]:
    """Everything, raw samples included, as JSON values."""
    return {
        "format": FORMAT,
        "about": dict(about),
        "workloads": {workload.key: workload.title for workload in workloads},
        "verdicts": [asdict(verdict) | {"title": verdict.rule.title} for verdict in verdicts],
        "samples": [asdict(sample) for sample in results.samples],
        "rounds": results.rounds,
        "warnings": results.warnings,
    }


def write(folder: Path, told: Mapping[str, Any], verdicts: Sequence[Verdict], title: str) -> tuple[Path, Path]:
    """Write the document and the chart into ``folder``; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    results, chart = folder / "results.json", folder / "results.svg"
    results.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    chart.write_text(draw(verdicts, title), encoding="utf-8")
    return results, chart


def _median(samples: Sequence[Sample], name: str) -> str:
    value: Spread | None = spread([one.figures[name] for one in samples if name in one.figures])
    return "" if value is None else shown(value.median)
