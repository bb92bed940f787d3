"""What ``lilliput hardware`` does: the machine once, or again and again."""

from __future__ import annotations

import time
from contextlib import suppress

import msgspec
import typer
from rich.live import Live

from lilliput_client import Client
from lilliput_client.cli.connection import connect
from lilliput_client.cli.hardware_view import hardware_facts
from lilliput_client.cli.output import console, facts, print_json

_EVERY_S = 2.0


def show_hardware(ctx: typer.Context, *, watch: bool, as_json: bool) -> None:
    """Print the machine; with ``watch`` until Ctrl-C, for programs as one JSON document a line."""
    with connect(ctx) as client:
        if not watch and as_json:
            print_json(client.hardware())
        elif not watch:
            console().print(facts(hardware_facts(client.hardware())))
        else:
            with suppress(KeyboardInterrupt):  # the way to end it
                _follow_as_json(client) if as_json else _follow(client)


def _follow(client: Client) -> None:
    out = console()
    if not out.is_terminal:
        while True:
            out.print(facts(hardware_facts(client.hardware())))
            out.print()
            out.file.flush()
            time.sleep(_EVERY_S)
    with Live(facts(hardware_facts(client.hardware())), console=out, auto_refresh=False) as screen:
        while True:
            time.sleep(_EVERY_S)
            screen.update(facts(hardware_facts(client.hardware())), refresh=True)


def _follow_as_json(client: Client) -> None:
    while True:
        typer.echo(msgspec.json.encode(client.hardware()))
        time.sleep(_EVERY_S)
