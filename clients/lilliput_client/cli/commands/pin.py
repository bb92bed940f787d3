"""``lilliput pin``."""

from __future__ import annotations

import typer

from lilliput_client.cli.connection import connect, model_name
from lilliput_client.cli.options import Json, ModelNames, examples, new_app
from lilliput_client.cli.output import print_json, talk

app = new_app()


@app.command(
    epilog=examples(
        ("lilliput pin smollm2", "it stays in memory once it is loaded"),
        note="A pinned model is not evicted for others, does not go when unused, and is loaded when the daemon starts.",
    )
)
def pin(ctx: typer.Context, models: ModelNames, json: Json = False) -> None:
    """Keep models in memory."""
    with connect(ctx) as client:
        for model in models:
            client.pin(model_name(model))
            talk(f"{model} is pinned")
    if json:
        print_json({"pinned": models})
