"""Processes that the system has ended for want of memory."""

from __future__ import annotations

from pathlib import Path

_ROOT = Path("/")


def oom_kills(root: Path = _ROOT) -> int | None:
    """How many so far: in this process's control group where it has one, else on the whole machine; None if unknown.

    Source: ``oom_kill`` of ``memory.events`` (cgroup v2) and of ``/proc/vmstat``, which counts those of groups too.
    """
    for path in _files(root):
        try:
            lines = path.read_text(encoding="ascii").splitlines()
        except (OSError, ValueError):
            continue
        for line in lines:
            name, _, count = line.partition(" ")
            if name == "oom_kill" and count.strip().isdecimal():
                return int(count)
    return None


def _files(root: Path) -> list[Path]:
    files = [root / "proc/vmstat"]
    try:
        groups = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return files
    inside = [line.removeprefix("0::").lstrip("/") for line in groups if line.startswith("0::")]
    return [root / "sys/fs/cgroup" / inside[0] / "memory.events", *files] if inside else files
