"""What ``lilliput hardware`` and ``lilliput engines`` do: show something once, or again and again."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import msgspec
import typer
from rich.console import RenderableType
from rich.live import Live

from lilliput_client import Client
from lilliput_client.cli.connection import connect
from lilliput_client.cli.engines_view import engines_table
from lilliput_client.cli.hardware_view import hardware_facts
from lilliput_client.cli.output import console, facts, print_json

_HARDWARE_EVERY_S = 2.0
_ENGINES_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class _Scene:
    """Something that can be watched: for people, for programs, and the seconds between two looks."""

    draw: Callable[[Client], RenderableType]
    tell: Callable[[Client], object]
    every_s: float


def show_hardware(ctx: typer.Context, *, watch: bool, as_json: bool) -> None:
    """Print the machine; with ``watch`` until Ctrl-C, for programs as one JSON document a line."""
    scene = _Scene(lambda client: facts(hardware_facts(client.hardware())), Client.hardware, _HARDWARE_EVERY_S)
    _show(ctx, scene, watch=watch, as_json=as_json)


def show_engines(ctx: typer.Context, *, watch: bool, as_json: bool) -> None:
    """Print what the engines do; ``watch`` and ``as_json`` as above."""
    scene = _Scene(
        lambda client: engines_table(client.engines()), lambda client: {"engines": client.engines()}, _ENGINES_EVERY_S
    )
    _show(ctx, scene, watch=watch, as_json=as_json)


def _show(ctx: typer.Context, scene: _Scene, *, watch: bool, as_json: bool) -> None:
    with connect(ctx) as client:
        if not watch and as_json:
            print_json(scene.tell(client))
        elif not watch:
            console().print(scene.draw(client))
        else:
            with suppress(KeyboardInterrupt):  # the way to end it
                _follow_as_json(client, scene) if as_json else _follow(client, scene)


def _follow(client: Client, scene: _Scene) -> None:
    out = console()
    if not out.is_terminal:
        while True:
            out.print(scene.draw(client))
            out.print()
            out.file.flush()
            time.sleep(scene.every_s)
    screen = Live(scene.draw(client), console=out, auto_refresh=False)
    try:  # not its context: a Ctrl-C while that is entered would leave the terminal without a cursor
        screen.start(refresh=True)
        while True:
            time.sleep(scene.every_s)
            screen.update(scene.draw(client), refresh=True)
    finally:
        screen.stop()


def _follow_as_json(client: Client, scene: _Scene) -> None:
    while True:
        typer.echo(msgspec.json.encode(scene.tell(client)))
        time.sleep(scene.every_s)
