"""``lilliput jobs``."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from lilliput_client import Job
from lilliput_client.cli import formats
from lilliput_client.cli.connection import connect
from lilliput_client.cli.options import Json, examples, new_app
from lilliput_client.cli.output import console, print_json, table, talk

app = new_app()


@app.callback(
    invoke_without_command=True,
    epilog=examples(("lilliput jobs", "the same as: lilliput jobs list"), ("lilliput jobs cancel 3f2a", "")),
)
def jobs(ctx: typer.Context, json: Json = False) -> None:
    """List the daemon's jobs, or cancel one."""
    if ctx.invoked_subcommand is None:
        list_jobs(ctx, json)


@app.command("list", epilog=examples(("lilliput jobs list", ""), ("lilliput jobs list --json", "for programs")))
def list_jobs(ctx: typer.Context, json: Json = False) -> None:
    """List the jobs the daemon remembers."""
    with connect(ctx) as client:
        found = client.jobs()
    if json:
        print_json({"jobs": found})
        return
    now = time.time()
    rows = [(job.id, job.kind, job.model, job.state, _progress(job), formats.ago(now, job.updated_at)) for job in found]
    console().print(table(("ID", "KIND", "MODEL", "STATE", "PROGRESS", "UPDATED"), rows))


@app.command(epilog=examples(("lilliput jobs cancel 3f2a", "what was downloaded is kept for the next time")))
def cancel(
    ctx: typer.Context,
    job_id: Annotated[str, typer.Argument(metavar="ID", help="The job's id, as in: lilliput jobs.")],
    json: Json = False,
) -> None:
    """Cancel a job."""
    with connect(ctx) as client:
        job = client.cancel_job(job_id)
    talk(f"job {job.id} is {job.state}")
    if json:
        print_json(job)


def _progress(job: Job) -> str:
    if job.error is not None:
        return job.error.message
    if job.finished or job.completed_bytes is None:
        return formats.text(None if job.finished else job.phase)
    return f"{formats.text(job.phase)} {formats.size(job.completed_bytes)} of {formats.size(job.total_bytes)}"
