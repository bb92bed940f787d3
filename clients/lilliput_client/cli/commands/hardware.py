"""``lilliput hardware``."""

from __future__ import annotations

from typing import Annotated

import typer

from lilliput_client.cli.options import Json, examples, new_app

app = new_app()


@app.command(
    epilog=examples(
        ("lilliput hardware", "processor, memory, accelerators"),
        ("lilliput hardware --watch", "again every 2 s, until Ctrl-C"),
        ("lilliput hardware --json", "for programs; with --watch one document a line"),
    )
)
def hardware(
    ctx: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every 2 s, until Ctrl-C.")] = False,
    json: Json = False,
) -> None:
    """Show what the daemon sees of its machine."""
    from lilliput_client.cli.watching import show_hardware  # late: the help need not wait for HTTP and tables

    show_hardware(ctx, watch=watch, as_json=json)
