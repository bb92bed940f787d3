"""``lilliput ps``."""

from __future__ import annotations

import time

import typer

from lilliput_client.cli import formats
from lilliput_client.cli.connection import connect
from lilliput_client.cli.options import Json, examples, new_app
from lilliput_client.cli.output import console, print_json, table
from lilliput_client.values import Engine

app = new_app()

_LINES = 3


@app.command(epilog=examples(("lilliput ps", ""), ("lilliput ps --json", "for programs")))
def ps(ctx: typer.Context, json: Json = False) -> None:
    """List the models in memory."""
    with connect(ctx) as client:
        engines = client.engines()
    if json:
        print_json({"engines": engines})
        return
    now = time.time()
    headers: tuple[str, ...] = ("MODEL", "STATE", "MEMORY", "CONTEXT", "SLOTS", "ACTIVE/WAITING", "LOADED", "UNTIL")
    rows: list[tuple[str, ...]] = [
        (
            engine.model,
            _state(engine),
            formats.size(engine.memory_bytes),
            formats.text(engine.context_tokens),
            formats.text(engine.slots),
            f"{engine.active}/{engine.waiting}",
            formats.ago(now, engine.loaded_at),
            "pinned" if engine.pinned else formats.until(now, engine.expires_at),
        )
        for engine in engines
    ]
    drafts = [(engine.settings or {}).get("draft", "") for engine in engines]
    if any(drafts):
        headers, rows = (*headers, "DRAFT MODEL"), [(*row, draft) for row, draft in zip(rows, drafts, strict=True)]
    console().print(table(headers, rows, right=(2, 3, 4)))
    for engine in engines:
        for given_up in engine.degraded:
            console().print(f"{engine.model}: memory was short: {given_up}", markup=False)
        if engine.state == "failed":
            tail = "".join(f"\n  {line}" for line in engine.log_tail[-_LINES:])
            console().print(
                f"{engine.model} failed {formats.ago(now, engine.failed_at)}: {engine.error}{tail}", markup=False
            )


def _state(engine: Engine) -> str:
    """Its state, with the part that is there while it loads."""
    return f"loading {engine.progress:.0%}" if engine.state == "loading" and engine.progress else engine.state
