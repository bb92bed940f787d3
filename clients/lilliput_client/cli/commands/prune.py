"""``lilliput prune``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from lilliput_client import Garbage, Leftover, Pruned
from lilliput_client.cli import formats
from lilliput_client.cli.connection import connect
from lilliput_client.cli.options import Json, OlderThan, examples, new_app
from lilliput_client.cli.output import console, print_json, table, talk

app = new_app()

_KINDS = {
    "model": "model file",
    "part": "incomplete download",
    "link": "broken link",
    "prefix": "saved prompt",
    "temporary": "unfinished file",
}

DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would go, and remove nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Remove without a question.")]


@app.command(
    epilog=examples(
        ("lilliput prune", "shows what nobody needs, and asks"),
        ("lilliput prune --dry-run", "only shows"),
        ("lilliput prune --yes --json", "for programs"),
        ("lilliput prune --older-than 12h", "younger files, too"),
        note="Installed models, files of unfinished jobs and what other tools keep in the shared cache stay.",
    )
)
def prune(
    ctx: typer.Context, dry_run: DryRun = False, yes: Yes = False, older_than: OlderThan = None, json: Json = False
) -> None:
    """Remove files that nobody needs any more."""
    with connect(ctx) as client:
        found = client.garbage(older_than)
        if not json or dry_run:
            _show(found, as_json=json)
        if dry_run:
            return
        pruned = Pruned()
        if found.garbage:
            _ask(ctx, found, yes=yes)
            pruned = client.prune(older_than, [one.path for one in found.garbage])
            _tell(pruned)
    if json:
        print_json(pruned)


def _show(found: Garbage, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    if found.garbage:
        console().print(table(("WHAT", "SIZE", "AGE", "WHY", "FILE"), _rows(found.garbage), right=(1, 2)))
    else:
        talk("there is nothing to remove")
    for why in dict.fromkeys(one.why for one in found.kept):
        kept = [one for one in found.kept if one.why == why]
        talk(f"{_counted(kept)} kept ({formats.size(sum(one.size_bytes for one in kept))}): {why}")


def _rows(files: Sequence[Leftover]) -> list[tuple[str, ...]]:
    return [
        (_KINDS.get(one.kind, one.kind), formats.size(one.size_bytes), formats.duration(one.age_s), one.why, one.path)
        for one in files
    ]


def _ask(ctx: typer.Context, found: Garbage, *, yes: bool) -> None:
    """Leave the command unless a person, or --yes, says that these files may go."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter("there is nobody to ask: say --yes, or --dry-run to look only", ctx=ctx)
    if not typer.confirm(f"Remove {_counted(found.garbage)} ({formats.size(found.size_bytes)})?", err=True):
        talk("nothing is removed")
        raise typer.Exit


def _tell(pruned: Pruned) -> None:
    talk(f"{_counted(pruned.removed)} removed, {formats.size(pruned.freed_bytes)} free")
    for one in pruned.skipped:
        talk(f"kept {one.path}: {one.why}")


def _counted(files: Sequence[Leftover]) -> str:
    return f"{len(files)} file" if len(files) == 1 else f"{len(files)} files"
