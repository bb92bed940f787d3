"""Read and write byte counts and durations as people write them."""

from __future__ import annotations

import re

KIB = 1024
MIB = 1024**2
GIB = 1024**3

_BYTES = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern})+")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_bytes(text: str) -> int:
    """Bytes from ``"600MiB"``, ``"2GB"`` or ``"1048576"`` (``i`` means powers of 1024); ValueError otherwise."""
    match = _BYTES.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a size: write bytes, or a number with KB, MiB, GB …")
    number, prefix, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** _POWERS[prefix.lower()])


def parse_duration(text: str) -> float:
    """Seconds from ``"300"``, ``"1.5h"``, ``"1h30m"``, ``"500ms"`` or, for ever, ``"-1"``; ValueError otherwise."""
    plain = text.strip().lower()
    sign, bare = (-1.0, plain[1:]) if plain.startswith("-") else (1.0, plain)
    if re.fullmatch(r"\d+(\.\d+)?", bare):
        return sign * float(bare)
    if not bare or not _DURATION.fullmatch(bare):
        raise ValueError(f"{text!r} is not a duration: write seconds, or numbers with ms, s, m, h or d")
    return sign * sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(bare))


def format_bytes(count: int) -> str:
    """A byte count for people, in powers of 1024: ``"1.5 GiB"``."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def counted(count: int, thing: str) -> str:
    """``"1 slot"``, ``"2 slots"``."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def format_age(seconds: float) -> str:
    """A long time for people, in one unit: ``"7 days"``, ``"36 hours"``, ``"5 minutes"``."""
    for unit_s, unit, least in ((86400, "day", 2), (3600, "hour", 2), (60, "minute", 2)):
        if seconds >= least * unit_s:
            return counted(int(seconds // unit_s), unit)
    return counted(int(seconds), "second")


def format_duration(seconds: float) -> str:
    """A duration for people: ``"850 ms"``, ``"42 s"``, ``"3 min 05 s"``, ``"2 h 10 min"``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
