"""The table of predicted and measured memory: written as Markdown and read again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from tests.accuracy.rows import PARTS, Row, Sizes
from tests.accuracy.settings import LoadSetting
from tests.accuracy.variants import LAID_OUT

from lilliput.units import MIB

DOCUMENT = Path(__file__).parents[2] / "docs" / "memory-accuracy.md"

_INTRODUCTION = """\
# Predicted and measured memory

Written by `make accuracy`, which plans every variant below before it exists, by the planner that answers
`lilliput plan`, from the header of the source file alone; then makes the variant and loads it as an engine does, runs a
prompt of a whole micro-batch and some tokens on each sequence, and compares the plan with what llama.cpp's log and the
system say. The source files are loaded at every setting, each other variant at three, which together go through all
settings several times. The tests load some rows again and compare.

Bounds: each buffer within 1 % or 4 MiB, the process (proportional set size, PSS) within 5 % or 32 MiB.

- **Weights** are the bytes of the mapped file and of the matrices that the CPU backend copies into another layout
  ("repacks"): a plan's `weights` and `weights_idle`. The first count each matrix once, or twice when it serves as
  embedding and, repacked, as output; copies are anonymous memory, which stays. The second are mapped originals of
  copies: clean page cache that nobody reads again, dropped when room is needed. The PSS shows them until then.
- **Compute** is what llama.cpp reserves, with the rows of logits that it hands out. Room for attention over cells that
  nothing is in is never touched: it is in the buffer and not in the PSS. The plan's `pss_bytes` counts the whole
  buffer; here it has the scratch of the same plan for as many cells as the load has used.
- **Flash** `auto` is how plans and loads have it (on, on this CPU); `off` and `on` are what a tuned file may have with
  a cache of f16.
- Micro-batches are of 512 tokens, as engines have them, with 2048 tokens of f16 cache, and of 64 elsewhere. As in
  engines, a context has 24 sequences beside its slots, to keep prefixes, where they cost no cache of their own.
- **PSS** is the plan's `pss_bytes`: weights, caches, compute, and the process with interpreter, libraries, vocabulary,
  graph metadata.
"""


_NAMED = ("model", "variant", "context", "slots", "kv", "flash")


def render(rows: Sequence[Row], facts: Iterable[tuple[str, str]]) -> str:
    """The whole document; ``facts`` describe machine and build."""
    parts = [_INTRODUCTION, "\n".join(f"- {name}: {value}" for name, value in facts) + "\n"]
    parts.append("## Worst errors\n\n" + _worst_table(rows))
    parts.append("## By variant\n\nMiB; the largest difference of any load, and weights as predicted / measured.\n")
    parts.append(_variant_table(rows))
    if any(row.variant in LAID_OUT for row in rows):
        why = "files with the tensors that llama.cpp would make and zeros in them, since quantizing takes minutes"
        parts.append(f"{', '.join(LAID_OUT)}: {why}.\n")
    parts.append("## Every load\n\nMiB, predicted / measured.\n")
    parts.append("\n".join([*_header(_NAMED, PARTS), *map(_line, rows)]) + "\n")
    return "\n".join(parts)


def parse(text: str) -> list[Row]:
    """The rows of a document's last table, in bytes rounded to 0.01 MiB."""
    return [_row(found) for found in _ROW.finditer(text)]


def worst(rows: Iterable[Row], part: str) -> Row | None:
    """The row that comes nearest to its bound, or breaks it most."""
    told = [row for row in rows if row.excess(part) is not None]
    return max(told, key=lambda row: row.excess(part) or 0.0, default=None)


def _worst_table(rows: Sequence[Row]) -> str:
    lines = _header(("part",), ("difference (MiB)", "of the measured", "of what is allowed", "where"))
    for part in PARTS:
        row = worst(rows, part)
        difference = row.difference(part) if row else None
        if row is None or difference is None:
            lines.append(f"| {part} | not measured here | | | |")
            continue
        share = difference / max(1, getattr(row.measured, part))
        where = f"{row.model} {row.variant}, {row.setting.context_tokens} tokens, {row.setting.slots} slots"
        where += f", {row.setting.kv_type}, flash {row.setting.flash}"
        lines.append(f"| {part} | {difference / MIB:+.2f} | {share:+.2%} | {row.excess(part):.0%} | {where} |")
    return "\n".join(lines) + "\n"


def _variant_table(rows: Sequence[Row]) -> str:
    lines = _header(("model", "variant"), ("loads", *PARTS[:1], *(f"{part} off by" for part in PARTS)))
    for (model, variant), group in groupby(rows, key=lambda row: (row.model, row.variant)):
        loads = list(group)
        off = [max((abs(row.difference(part) or 0) for row in loads), default=0) / MIB for part in PARTS]
        cells = [model, variant, str(len(loads)), _pair(loads[0], "weights"), *(f"{size:.2f}" for size in off)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _header(left: Iterable[str], right: Iterable[str]) -> list[str]:
    names, numbers = list(left), list(right)
    return [f"| {' | '.join(names + numbers)} |", f"|{'---|' * len(names)}{'---:|' * len(numbers)}"]


def _line(row: Row) -> str:
    setting = row.setting
    named = [row.model, row.variant, setting.context_tokens, setting.slots, setting.kv_type, setting.flash]
    return f"| {' | '.join([*map(str, named), *(_pair(row, part) for part in PARTS)])} |"


def _pair(row: Row, part: str) -> str:
    predicted, measured = getattr(row.predicted, part), getattr(row.measured, part)
    return f"{predicted / MIB:.2f} / " + ("–" if measured is None else f"{measured / MIB:.2f}")


_PAIR = r"([\d.]+) / ([\d.]+|–)"
_ROW = re.compile(
    r"^\| (\S+) \| (\S+) \| (\d+) \| (\d+) \| (\w+) \| (on|off|auto) \| "
    + r" \| ".join([_PAIR] * len(PARTS))
    + r" \|$",
    re.MULTILINE,
)


def _row(found: re.Match[str]) -> Row:
    model, variant, context, slots, kv_type, flash, *sizes = found.groups()
    numbers = [None if size == "–" else round(float(size) * MIB) for size in sizes]
    setting = LoadSetting(int(context), int(slots), kv_type, flash)
    return Row(model, variant, setting, _sizes(numbers[0::2]), _sizes(numbers[1::2]))


def _sizes(numbers: Sequence[int | None]) -> Sizes:
    weights, kv, compute, pss = numbers
    assert weights is not None
    assert kv is not None
    assert compute is not None
    return Sizes(weights, kv, compute, pss)
