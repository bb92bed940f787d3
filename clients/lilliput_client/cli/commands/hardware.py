"""``lilliput hardware``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import typer

from lilliput_client.cli import formats
from lilliput_client.cli.connection import connect
from lilliput_client.cli.options import Json, examples, new_app
from lilliput_client.cli.output import console, facts, print_json

app = new_app()


@app.command(epilog=examples(("lilliput hardware", ""), ("lilliput hardware --json", "for programs")))
def hardware(ctx: typer.Context, json: Json = False) -> None:
    """Show what the daemon sees of its machine."""
    with connect(ctx) as client:
        found = client.hardware()
    if json:
        print_json(found)
        return
    console().print(facts(_flat("", found)))


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{prefix} {key}".strip(), inner)
    elif isinstance(value, list) and any(isinstance(inner, Mapping) for inner in value):
        for index, inner in enumerate(value):
            yield from _flat(f"{prefix} {index}", inner)
    elif prefix.endswith("_bytes") and isinstance(value, int):
        yield prefix.removesuffix("_bytes"), formats.size(value)
    else:
        yield prefix, ", ".join(map(str, value)) if isinstance(value, list) else formats.text(value)
