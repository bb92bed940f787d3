"""``lilliput stop``."""

from __future__ import annotations

import typer

from lilliput_client.cli.connection import connect, model_name
from lilliput_client.cli.options import Json, ModelNames, examples, new_app
from lilliput_client.cli.output import print_json, talk

app = new_app()


@app.command(epilog=examples(("lilliput stop smollm2", "give its memory back; it stays installed")))
def stop(ctx: typer.Context, models: ModelNames, json: Json = False) -> None:
    """Unload models from memory."""
    with connect(ctx) as client:
        for model in models:
            client.unload(model_name(model))
            talk(f"{model} is unloaded")
    if json:
        print_json({"stopped": models})
