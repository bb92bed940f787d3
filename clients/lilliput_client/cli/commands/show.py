"""``lilliput show``."""

from __future__ import annotations

import time

import typer

from lilliput_client import Model
from lilliput_client.cli import formats
from lilliput_client.cli.connection import connect, model_name
from lilliput_client.cli.options import Json, ModelName, examples, new_app
from lilliput_client.cli.output import console, facts, print_json, table

app = new_app()


@app.command(epilog=examples(("lilliput show smollm2", ""), ("lilliput show smollm2 --json", "for programs")))
def show(ctx: typer.Context, model: ModelName, json: Json = False) -> None:
    """Show what is known of an installed model."""
    with connect(ctx) as client:
        found = client.show(model_name(model))
    if json:
        print_json(found)
        return
    out = console()
    out.print(facts(_facts(found)))
    out.print()
    rows = [(formats.size(file.size_bytes), formats.text(file.sha256)[:16], file.path) for file in found.files]
    out.print(table(("SIZE", "SHA256", "FILE"), rows, right=(0,)))


def _facts(model: Model) -> list[tuple[str, str]]:
    origin = f"{model.repo}@{(model.revision or '')[:12]}" if model.repo else model.source
    context = f"{model.context_length} tokens" if model.context_length else None
    return [
        ("name", model.name),
        ("from", formats.text(origin)),
        ("quantization", formats.text(model.quantization)),
        ("architecture", formats.text(model.architecture)),
        ("parameters", formats.quantity(model.parameter_count)),
        ("trained context", formats.text(context)),
        ("size", formats.size(model.size_bytes)),
        ("licence", formats.text(model.license)),
        ("installed", formats.ago(time.time(), model.installed_at)),
    ]
