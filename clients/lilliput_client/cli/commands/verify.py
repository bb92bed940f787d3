"""``lilliput verify``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Annotated

import typer

from lilliput_client import FileReport, Job, file_reports
from lilliput_client.cli import formats
from lilliput_client.cli.connection import connect, model_name
from lilliput_client.cli.failures import FAILED
from lilliput_client.cli.options import Json, OptionalModelNames, examples, new_app
from lilliput_client.cli.output import console, print_json, table
from lilliput_client.cli.progress import follow

app = new_app()

Hub = Annotated[bool, typer.Option("--hub", help="Compare what was recorded with the Hub, too.")]


@app.command(
    epilog=examples(
        ("lilliput verify", "all models"),
        ("lilliput verify llama3.2:3b org/repo:Q4_K_M", ""),
        ("lilliput verify --hub", "also asks the Hub what it says of these revisions"),
        note="Reads every byte: a few seconds a GiB. Nothing is removed; pull a damaged model to have it whole again. "
        "Exit code 1: something is damaged.",
    )
)
def verify(ctx: typer.Context, models: OptionalModelNames = None, hub: Hub = False, json: Json = False) -> None:
    """Check that installed files are what was installed."""
    names = [model_name(model) for model in models or ()]
    with connect(ctx) as client:
        job = client.start_verify(names, hub=hub)
        again = " ".join(["lilliput verify", *(models or ()), *(["--hub"] if hub else [])])
        job = follow(client, job, again, ended=_outcome, cancelled="cancelled; start over with")
    reports = file_reports(job)
    if json:
        print_json(job)
    else:
        _print(reports)
    if any(report.bad for report in reports):
        raise typer.Exit(FAILED)


def _outcome(job: Job) -> str:
    return job.message or "verified"


def _print(reports: Sequence[FileReport]) -> None:
    out = console()
    rows = [
        (one.model, formats.size(one.size_bytes), one.state, formats.text(one.hub), PurePath(one.path).name)
        for one in reports
    ]
    out.print(table(("MODEL", "SIZE", "STATE", "HUB", "FILE"), rows, right=(1,)))
    for one in reports:
        reasons = [reason for reason in (one.fault, one.hub_reason) if reason]
        if reasons:
            out.print(f"\n{one.path}\n  {'; '.join(reasons)}", soft_wrap=True)
        if one.bad and one.remedy:
            out.print(f"  remedy: {one.remedy}", soft_wrap=True)
