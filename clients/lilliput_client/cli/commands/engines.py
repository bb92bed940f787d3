"""``lilliput engines``."""

from __future__ import annotations

from typing import Annotated

import typer

from lilliput_client.cli.options import Json, examples, new_app

app = new_app()


@app.command(
    epilog=examples(
        ("lilliput engines", "tokens a second, passes, cells of the KV cache"),
        ("lilliput engines --watch", "again every second, until Ctrl-C"),
        ("lilliput engines --json", "for programs; with --watch one document a line"),
    )
)
def engines(
    ctx: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", help="Show them again every second, until Ctrl-C.")] = False,
    json: Json = False,
) -> None:
    """Show what the engines do now."""
    from lilliput_client.cli.watching import show_engines  # late: the help need not wait for HTTP and tables

    show_engines(ctx, watch=watch, as_json=json)
