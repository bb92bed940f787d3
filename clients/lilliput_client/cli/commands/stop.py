"""``lilliput stop``."""

from __future__ import annotations

from typing import Annotated

import typer

from lilliput_client.cli.connection import connect, model_name
from lilliput_client.cli.options import Json, ModelNames, examples, new_app
from lilliput_client.cli.output import print_json, talk

app = new_app()


@app.command(
    epilog=examples(
        ("lilliput stop smollm2", "give its memory back; it stays installed"),
        ("lilliput stop smollm2 --drain", "when its answers have come to their end"),
    )
)
def stop(
    ctx: typer.Context,
    models: ModelNames,
    drain: Annotated[bool, typer.Option("--drain", help="Let what is being answered come to its end first.")] = False,
    json: Json = False,
) -> None:
    """Unload models from memory."""
    with connect(ctx) as client:
        for model in models:
            client.unload(model_name(model), drain=drain)
            talk(f"{model} is unloaded")
    if json:
        print_json({"stopped": models})
