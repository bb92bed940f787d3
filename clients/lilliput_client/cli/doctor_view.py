"""What ``lilliput doctor`` shows: a line a check, what to do below it, and the sum."""

from __future__ import annotations

import typer
from rich.table import Table
from rich.text import Text

from lilliput_client import Finding, Report
from lilliput_client.cli.output import console, print_json, table
from lilliput_client.cli.own_daemon import reach

_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red", "unknown": "dim"}


def show_doctor(ctx: typer.Context, *, as_json: bool) -> bool:
    """Print what the daemon's doctor finds; False when there is a problem."""
    with reach(ctx) as client:
        report = client.doctor()
    if as_json:
        print_json(report)
    else:
        out = console()
        out.print(_table(report))
        out.print()
        out.print(Text(_sum(report), style=_STYLES.get(report.verdict, "")))
    return report.verdict != "problem"


def _table(report: Report) -> Table:
    rows = [
        (Text(one.verdict, style=_STYLES.get(one.verdict, "")), one.title or one.check, _said(one))
        for one in report.checks
    ]
    return table(("VERDICT", "CHECK", "FOUND"), rows, whole=(0, 1))


def _said(finding: Finding) -> Text:
    said = Text(finding.summary)
    if finding.remedy and finding.verdict != "ok":
        said.append(f"\n-> {finding.remedy}", style="bold")
    return said


def _sum(report: Report) -> str:
    """How often each verdict was given, worst first: ``1 problem, 2 warnings, 13 ok``."""
    counts = {name: report.counts.get(name, 0) for name in ("problem", "warning", "ok", "unknown")}
    plural = {name: "s" if name in ("problem", "warning") and count != 1 else "" for name, count in counts.items()}
    return (
        ", ".join(f"{count} {name}{plural[name]}" for name, count in counts.items() if count) or "nothing was checked"
    )
