"""``lilliput advise``."""

from __future__ import annotations

import typer

from lilliput_client.cli.options import Json, Machine, OptionalModelName, UseCaseName, examples, new_app

app = new_app()


@app.command(
    epilog=examples(
        ("lilliput advise qwen3:8b", "asks what it is for"),
        ("lilliput advise llama3.1:70b --use-case coding", ""),
        ("lilliput advise llama3.1:70b --machine macbook-m2-16gb", "for another machine"),
        ("lilliput advise smollm2 --use-case general --json", "for programs"),
        note="Exit codes: 0 there is something to start with, 3 nothing fits.",
    )
)
def advise(
    ctx: typer.Context,
    model: OptionalModelName = None,
    use_case: UseCaseName = None,
    machine: Machine = None,
    json: Json = False,
) -> None:
    """Walk from what a model is for to the command to type."""
    from lilliput_client.cli.advising import show_advice  # late: the help need not wait for HTTP and tables

    show_advice(ctx, model, use_case=use_case, machine=machine, as_json=json)
