"""``lilliput plan``."""

from __future__ import annotations

from typing import Annotated

import typer

from lilliput_client.cli.connection import connect, model_name
from lilliput_client.cli.failures import exit_code, explain
from lilliput_client.cli.options import Context, Json, ModelName, examples, new_app
from lilliput_client.cli.output import console, print_json
from lilliput_client.cli.plan_view import does_not_fit, print_plan

app = new_app()


@app.command(
    epilog=examples(
        ("lilliput plan llama3.1:8b", ""),
        ("lilliput plan org/repo --context 32768", "with room for long prompts"),
        ("lilliput plan smollm2 --json", "for programs"),
        note="Ends with exit code 3 when no variant fits.",
    )
)
def plan(
    ctx: typer.Context,
    model: ModelName,
    context: Context = None,
    slots: Annotated[int | None, typer.Option(min=1, metavar="N", help="Requests to be answered at once.")] = None,
    json: Json = False,
) -> None:
    """Show which variants of a model fit here."""
    with connect(ctx) as client:
        found = client.plan(model_name(model), context_tokens=context, slots=slots)
    if json:
        print_json(found)
    else:
        print_plan(found, console())
    if found.chosen is None:
        error = does_not_fit(found)
        explain(error)
        raise typer.Exit(exit_code(error))
