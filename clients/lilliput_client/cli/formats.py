"""Numbers and times as people read them; an unknown one is a dash."""

from __future__ import annotations

from lilliput_client.plans import Speed

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


def change(count: int) -> str:
    """More or fewer bytes: ``+1.5 GiB``, ``-12.0 MiB``, ``0 B``."""
    return f"{'+' if count > 0 else ''}{size(count)}"


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


def until(now: float, then: float | None) -> str:
    """How long until the unix time ``then``."""
    return f"in {duration(then - now)}" if then else UNKNOWN


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


def speed(interval: Speed | None) -> str:
    """Tokens a second from the low to the high end: ``3.1-4.2``, ``12-15``."""
    if interval is None:
        return UNKNOWN
    digits = 1 if interval.high < 10 else 0
    low, high = f"{interval.low:.{digits}f}", f"{interval.high:.{digits}f}"
    return low if low == high else f"{low}-{high}"


def bandwidth(bytes_s: float | None) -> str:
    """A bandwidth in powers of 1000, as vendors tell it: ``102 GB/s``."""
    if bytes_s is None:
        return UNKNOWN
    return f"{bytes_s / 1e12:.2f} TB/s" if bytes_s >= 1e12 else f"{bytes_s / 1e9:.3g} GB/s"


def divergence(kld: float | None) -> str:
    """A divergence in nats: ``0.0014``, ``0.028``, ``1.39``."""
    if kld is None:
        return UNKNOWN
    return f"{kld:.4f}" if 0 < kld < 0.01 else f"{kld:.3f}" if kld < 1 else f"{kld:.2f}"


def rise(percent: float | None) -> str:
    """A rise in per cent: ``+0.04%``, ``+2.4%``, ``+39%``."""
    if percent is None:
        return UNKNOWN
    digits = 2 if abs(percent) < 1 else 1 if abs(percent) < 10 else 0
    return f"{percent:+.{digits}f}%"
