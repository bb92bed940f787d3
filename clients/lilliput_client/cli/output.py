"""Data on stdout: tables for people, one JSON document for programs; talk on stderr."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from typing import IO, Any, cast

import msgspec
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

_BLANK_ENDS = re.compile(r" +$", re.MULTILINE)
_NO_EDGE = 1000  # columns of an output that is no terminal: nothing is folded there

Cell = str | Text


def print_json(value: object) -> None:
    """Print dataclasses and plain values as one JSON document."""
    encoded = msgspec.json.format(msgspec.json.encode(value), indent=2)
    sys.stdout.write(encoded.decode() + "\n")


def console() -> Console:
    """The console of stdout; where that is no terminal, lines end with their text."""
    if sys.stdout.isatty():
        return Console(markup=False, highlight=False, emoji=False)
    file = cast(IO[str], _Trimming(sys.stdout))
    return Console(file=file, markup=False, highlight=False, emoji=False, width=_NO_EDGE)


class _Trimming:
    """A text file without the blanks at the ends of lines, with which tables fill their last column."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        """Write whole lines."""
        self._file.write(_BLANK_ENDS.sub("", text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


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
