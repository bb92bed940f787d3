"""What a process holds of memory, as its system counts it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import psutil


class Held(msgspec.Struct, frozen=True):
    """Bytes that a process holds.

    ``pss_bytes`` shares out what several processes map, and ``file_bytes`` is its part of mapped files; None where the
    system does not count them (only Linux does). ``anonymous_bytes`` is what no file stands behind; elsewhere what no
    other process has, which is nearest to it, and None where that is not told either.
    """

    rss_bytes: int
    pss_bytes: int | None = None
    anonymous_bytes: int | None = None
    file_bytes: int | None = None


def held_memory(pid: int | None = None, proc: Path = Path("/proc")) -> Held:
    """What the process (default: this one) holds now; psutil's error when it is gone."""
    try:
        text = (proc / str(pid or "self") / "smaps_rollup").read_text(encoding="ascii", errors="replace")
    except OSError:
        text = ""
    sizes: dict[str, int] = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[1] == "kB":
            sizes[name] = int(words[0]) * 1024
    if "Rss" not in sizes:
        return _held_elsewhere(psutil.Process(pid))
    return Held(sizes["Rss"], sizes.get("Pss"), sizes.get("Pss_Anon"), sizes.get("Pss_File"))


def _held_elsewhere(process: psutil.Process) -> Held:
    """As psutil counts it, which knows macOS and Windows as well; other users' processes do not tell all."""
    try:
        told = process.memory_full_info()
    except psutil.AccessDenied:
        return Held(int(process.memory_info().rss))
    return Held(int(told.rss), anonymous_bytes=int(told.uss))
