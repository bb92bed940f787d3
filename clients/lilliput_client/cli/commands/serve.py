"""``lilliput serve``."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Annotated

import typer

from lilliput_client.cli.options import examples, new_app

app = new_app()

_PASS_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": ["-h", "--help"]}


@app.command(
    context_settings=_PASS_ON,
    epilog=examples(
        ("lilliput serve", "at http://127.0.0.1:1726"),
        ("lilliput serve --port 8000 --context 8192", ""),
        ("lilliput serve --memory-limit 6GiB", "models may use that much"),
        note="Any other option is handed to the daemon as it is.",
    ),
)
def serve(
    ctx: typer.Context,
    host: Annotated[str | None, typer.Option(help="The address to listen on.", metavar="HOST")] = None,
    port: Annotated[int | None, typer.Option(help="The port to listen on.", min=0, max=65535, metavar="PORT")] = None,
    data_dir: Annotated[str | None, typer.Option(help="Where the daemon keeps its state.", metavar="DIR")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.", metavar="LEVEL")] = None,
    context: Annotated[int | None, typer.Option(help="Tokens of context of a model.", min=1, metavar="TOKENS")] = None,
    slots: Annotated[int | None, typer.Option(help="Requests a model answers at once.", min=1, metavar="N")] = None,
    memory_limit: Annotated[str | None, typer.Option(help="Memory that models may use.", metavar="SIZE")] = None,
) -> None:
    """Run the daemon."""
    given = {
        "--host": host,
        "--port": port,
        "--data-dir": data_dir,
        "--log-level": log_level,
        "--context-tokens": context,
        "--slots": slots,
        "--memory-limit": memory_limit,
    }
    flags = [part for flag, value in given.items() if value is not None for part in (flag, str(value))]
    become([sys.executable, "-m", "lilliput", *flags, *ctx.args])


def become(command: list[str]) -> None:
    """Replace this process by ``command``, or, where a system cannot do that, run it and end as it ends."""
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "posix":
        os.execv(command[0], command)  # noqa: S606 - no shell is wanted
    child = subprocess.Popen(command)
    while True:
        try:
            raise typer.Exit(child.wait())
        except KeyboardInterrupt:
            continue  # the daemon got it too, and drains
