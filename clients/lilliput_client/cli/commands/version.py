"""``lilliput version``."""

from __future__ import annotations

import typer

from lilliput_client import DaemonUnreachable
from lilliput_client.cli import formats
from lilliput_client.cli.about import client_version
from lilliput_client.cli.connection import connect
from lilliput_client.cli.options import Json, examples, new_app
from lilliput_client.cli.output import console, facts, print_json

app = new_app()


@app.command(epilog=examples(("lilliput version", ""), ("lilliput version --json", "for programs")))
def version(ctx: typer.Context, json: Json = False) -> None:
    """Show the versions of this client and of the daemon."""
    daemon: str | None = None
    with connect(ctx) as client:
        try:
            daemon = client.version()
        except DaemonUnreachable:
            note = f"none answers at {client.address.base_url}"
        else:
            note = daemon
    if json:
        print_json({"client": client_version(), "daemon": daemon})
    else:
        console().print(facts([("client", formats.text(client_version())), ("daemon", note)]))
