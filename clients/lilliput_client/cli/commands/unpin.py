"""``lilliput unpin``."""

from __future__ import annotations

import typer

from lilliput_client.cli.connection import connect, model_name
from lilliput_client.cli.options import Json, ModelNames, examples, new_app
from lilliput_client.cli.output import print_json, talk

app = new_app()


@app.command(epilog=examples(("lilliput unpin smollm2", "it goes when it is not used, or others need its memory")))
def unpin(ctx: typer.Context, models: ModelNames, json: Json = False) -> None:
    """Let pinned models go when they are not used."""
    with connect(ctx) as client:
        for model in models:
            client.unpin(model_name(model))
            talk(f"{model} is no longer pinned")
    if json:
        print_json({"unpinned": models})
