"""``lilliput rm``."""

from __future__ import annotations

import typer

from lilliput_client.cli.connection import connect, model_name
from lilliput_client.cli.options import Json, ModelNames, examples, new_app
from lilliput_client.cli.output import print_json, talk

app = new_app()


@app.command(epilog=examples(("lilliput rm llama3.1:8b", ""), ("lilliput rm qwen2.5:7b org/repo:Q4_K_M", "both")))
def rm(ctx: typer.Context, models: ModelNames, json: Json = False) -> None:
    """Remove installed models."""
    removed: list[str] = []
    with connect(ctx) as client:
        for model in models:
            removed.append(client.remove(model_name(model)).name)
            talk(f"{removed[-1]} is removed")
    if json:
        print_json({"removed": removed})
