"""``lilliput outdated``."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from lilliput_client import FileChange, Freshness
from lilliput_client.cli import formats
from lilliput_client.cli.connection import connect, model_name
from lilliput_client.cli.failures import FAILED
from lilliput_client.cli.options import Json, OptionalModelNames, examples, new_app
from lilliput_client.cli.output import console, print_json, table

app = new_app()

_COMMIT_DIGITS = 10


@app.command(
    epilog=examples(
        ("lilliput outdated", "all models that came from the Hub"),
        ("lilliput outdated llama3.2:3b", ""),
        ("lilliput outdated --json", "for programs"),
        note="Nothing is fetched. Exit code 1: nothing could be asked.",
    )
)
def outdated(ctx: typer.Context, models: OptionalModelNames = None, json: Json = False) -> None:
    """Show which models the Hub has newer."""
    with connect(ctx) as client:
        found = client.outdated([model_name(model) for model in models or ()])
    if json:
        print_json({"models": found})
    else:
        _print(found)
    asked = [one for one in found if one.state != "local"]
    if asked and all(one.state == "unreachable" for one in asked):
        raise typer.Exit(FAILED)


def _print(found: Sequence[Freshness]) -> None:
    out = console()
    rows = [
        (one.model, one.state, _commit(one.revision), _commit(one.hub_revision), formats.text(one.pull))
        for one in found
    ]
    out.print(table(("MODEL", "STATE", "INSTALLED", "HUB", "UPDATE BY"), rows))
    for one in found:
        if one.reason is not None:
            out.print(f"\n{one.model}: {one.reason}", soft_wrap=True)
        for change in one.changes:
            out.print(f"  {_told(change)}", soft_wrap=True)


def _commit(revision: str | None) -> str:
    return formats.text(revision and revision[:_COMMIT_DIGITS])


def _told(change: FileChange) -> str:
    """``changed file.gguf: 1.0 GiB 3f2a… -> 1.1 GiB 77ab…``."""
    sides = [(change.size_bytes, change.sha256), (change.hub_size_bytes, change.hub_sha256)]
    told = [f"{formats.size(size)} {(digest or '')[:12]}".rstrip() for size, digest in sides if size is not None]
    return f"{change.change} {change.path}" + (f": {' -> '.join(told)}" if told else "")
