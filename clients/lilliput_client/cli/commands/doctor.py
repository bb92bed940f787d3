"""``lilliput doctor``."""

from __future__ import annotations

import typer

from lilliput_client.cli.options import Json, examples, new_app

app = new_app()


@app.command(
    epilog=examples(
        ("lilliput doctor", "what is wrong, and what to do about it"),
        ("lilliput doctor --json", "for programs, with all numbers"),
        note="When no daemon runs here, one is started for the call: then nothing is seen of models at work. "
        "Exit codes: 0 no problem (warnings are none), 1 a problem.",
    )
)
def doctor(ctx: typer.Context, json: Json = False) -> None:
    """Find out what is wrong, and what to do about it."""
    from lilliput_client.cli.doctor_view import show_doctor  # late: the help need not wait for HTTP and tables

    if not show_doctor(ctx, as_json=json):
        raise typer.Exit(1)
