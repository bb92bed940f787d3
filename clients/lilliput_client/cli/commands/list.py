"""``lilliput list``."""

from __future__ import annotations

import time

import typer

from lilliput_client.cli import formats
from lilliput_client.cli.connection import connect
from lilliput_client.cli.options import Json, examples, new_app
from lilliput_client.cli.output import console, print_json, table

app = new_app()


@app.command(epilog=examples(("lilliput list", ""), ("lilliput list --json", "for programs")))
def list_models(ctx: typer.Context, json: Json = False) -> None:
    """List the installed models."""
    with connect(ctx) as client:
        models = client.models()
    if json:
        print_json({"models": models})
        return
    now = time.time()
    rows = [
        (
            model.name,
            formats.text(model.quantization),
            formats.size(model.size_bytes),
            formats.text(model.source),
            formats.ago(now, model.installed_at),
        )
        for model in models
    ]
    console().print(table(("NAME", "QUANTIZATION", "SIZE", "SOURCE", "MODIFIED"), rows, right=(2,)))
