"""The form of ``quality.toml``: its rows, checked key by key."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from lilliput.errors import BadFile

_NUMBERS = frozenset({"bits_per_weight", "kld", "dppl_percent", "top1_agreement", "kld_factor"})
_TEXTS = frozenset({"source", "note", "as"})


@dataclass(frozen=True, slots=True)
class Row:
    """One type as ``quality.toml`` gives it."""

    bits: float | None
    kld: float | None
    dppl: float | None
    top1: float | None
    source: str
    note: str | None
    same_as: str | None
    factor: float | None
    native: frozenset[str] | None


def fold(architecture: str) -> str:
    """An architecture's name without letter case and separators."""
    return re.sub(r"[-_.]", "", architecture.lower())


def bad_table(what: str) -> BadFile:
    """The error that says what is wrong with the file."""
    return BadFile(f"quality.toml: {what}", hint="its head describes the form")


def check_keys(found: Mapping[str, object], allowed: frozenset[str] | set[str], where: str) -> None:
    """``BadFile`` for a key that is not allowed."""
    for key in found:
        if key not in allowed:
            near = get_close_matches(key, allowed, n=1)
            raise bad_table(f"{where} has an unknown key {key!r}" + (f", did you mean {near[0]}?" if near else ""))


def table_at(value: object, where: str) -> dict[str, object]:
    """The value as a table, or ``BadFile``."""
    if not isinstance(value, dict):
        raise bad_table(f"{where} is not a table")
    return value


def texts_at(value: object, where: str) -> dict[str, str]:
    """The value as a table of texts, or ``BadFile``."""
    found = {key: text for key, text in table_at(value, where).items() if isinstance(text, str)}
    if len(found) != len(table_at(value, where)):
        raise bad_table(f"{where} holds something that is no text")
    return found


def rows_at(value: object, where: str, sources: Mapping[str, str]) -> dict[str, Row]:
    """The types of one table; ``as`` points to a row with numbers."""
    rows = {
        name: _row(table_at(one, f"{where}.{name}"), f"{where}.{name}", sources)
        for name, one in table_at(value, where).items()
    }
    for name, row in rows.items():
        if row.same_as is not None and (row.same_as not in rows or rows[row.same_as].same_as is not None):
            raise bad_table(f"{where}.{name} is as {row.same_as!r}, which has no numbers of its own")
    return rows


def _row(value: Mapping[str, object], where: str, sources: Mapping[str, str]) -> Row:
    check_keys(value, _NUMBERS | _TEXTS | {"native"}, where)
    numbers: dict[str, float] = {}
    for key in _NUMBERS & value.keys():
        number = value[key]
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 <= number < math.inf:
            raise bad_table(f"{where}.{key} is no number of at least 0")
        numbers[key] = float(number)
    texts = texts_at({key: value[key] for key in _TEXTS & value.keys()}, where)
    if "as" not in texts and texts.get("source") not in sources:
        raise bad_table(f"{where}.source is not one of [sources]")
    native = value.get("native")
    if native is not None and not isinstance(native, list):
        raise bad_table(f"{where}.native is not a list of architectures")
    return Row(
        bits=numbers.get("bits_per_weight"),
        kld=numbers.get("kld"),
        dppl=numbers.get("dppl_percent"),
        top1=numbers.get("top1_agreement"),
        source=sources.get(texts.get("source", ""), ""),
        note=texts.get("note"),
        same_as=texts.get("as"),
        factor=numbers.get("kld_factor"),
        native=None if native is None else frozenset(fold(str(one)) for one in native),
    )


def curve_of(value: object, types: Mapping[str, Row]) -> tuple[tuple[float, float, float], ...]:
    """(bits, KLD, ΔPPL %) of the named types; bits must rise and losses fall."""
    if not isinstance(value, list) or len(value) < 2:
        raise bad_table("curve is not a list of types")
    points: list[tuple[float, float, float]] = []
    for name in value:
        row = types.get(name)
        if row is None or row.bits is None or row.kld is None or row.dppl is None:
            raise bad_table(f"curve names {name!r}, which lacks numbers")
        if points and not (row.bits > points[-1][0] and row.kld < points[-1][1] and row.dppl < points[-1][2]):
            raise bad_table(f"curve is not in order at {name!r}: bits must rise and losses fall")
        points.append((row.bits, row.kld, row.dppl))
    return tuple(points)


def pairs_of(value: object) -> tuple[tuple[float, float], ...]:
    """(KLD, top-token agreement), KLDs rising and agreements falling."""
    pairs = value if isinstance(value, list) else []
    found = tuple((pair[0], pair[1]) for pair in pairs if isinstance(pair, list) and _is_pair(pair))
    if len(found) < 2 or len(found) < len(pairs):
        raise bad_table("top1_by_kld is not a list of pairs")
    if sorted(found) != list(found) or sorted(found, key=lambda pair: -pair[1]) != list(found):
        raise bad_table("top1_by_kld is not in order: KLDs must rise and agreements fall")
    return found


def _is_pair(pair: list[object]) -> bool:
    return len(pair) == 2 and all(isinstance(one, (int, float)) for one in pair)
