"""Numbers and times as people read them; an unknown one is a dash."""

from __future__ import annotations

UNKNOWN = "-"


def size(count: float | None) -> str:
    """Bytes in powers of 1024: ``1.5 GiB``."""
    if count is None:
        return UNKNOWN
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1023.95 or (unit == "B" and abs(count) < 1024):
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def duration(seconds: float | None) -> str:
    """A duration: ``42 s``, ``3 min 05 s``, ``2 h 10 min``, ``4 days``."""
    if seconds is None:
        return UNKNOWN
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} days"


def ago(now: float, then: float | None) -> str:
    """How long ago the unix time ``then`` was."""
    return f"{duration(now - then)} ago" if then else UNKNOWN


def quantity(count: int | None) -> str:
    """A count in powers of 1000: ``135M``, ``1.5B``."""
    if count is None:
        return UNKNOWN
    for power, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= power:
            return f"{count / power:.3g}{unit}"
    return str(count)


def text(value: object | None) -> str:
    """A value, or a dash for none."""
    return UNKNOWN if value is None or value == "" else str(value)
