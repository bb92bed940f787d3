"""Data on stdout: tables for people, one JSON document for programs; talk on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import msgspec
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

_NO_EDGE = 1000  # columns of an output that is no terminal: nothing is folded there

Cell = str | Text


def print_json(value: object) -> None:
    """Print dataclasses and plain values as one JSON document."""
    encoded = msgspec.json.format(msgspec.json.encode(value), indent=2)
    sys.stdout.write(encoded.decode() + "\n")


def console() -> Console:
    """The console of stdout."""
    return Console(markup=False, highlight=False, emoji=False, width=None if sys.stdout.isatty() else _NO_EDGE)


def talk(line: str) -> None:
    """Tell a person something that is not the command's data."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def table(
    headers: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    right: Iterable[int] = (),
    whole: Iterable[int] = (),
    gap: int = 3,
) -> Table:
    """A borderless table; the columns in ``right`` are right-aligned, those in ``whole`` never folded."""
    built = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    aligned_right, unfolded = set(right), set(whole)
    for index, header in enumerate(headers):
        justify: JustifyMethod = "right" if index in aligned_right else "left"
        built.add_column(header, justify=justify, overflow="fold", no_wrap=index in unfolded)
    for row in rows:
        built.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    return built


def facts(rows: Iterable[tuple[str, str]]) -> Table:
    """Names and values, one pair a line."""
    built = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), show_header=False)
    built.add_column(style="bold")
    built.add_column(overflow="fold")
    for name, value in rows:
        built.add_row(Text(name), Text(value))
    return built
