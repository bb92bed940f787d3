"""Processes that the system has ended for want of memory."""

from __future__ import annotations

import re
from pathlib import Path

from lilliput.hardware.cgroups import find_memory_groups
from lilliput.hardware.text import read_text

_KILLS = re.compile(r"^oom_kill (\d+)$", re.MULTILINE | re.ASCII)


def oom_kills(root: Path = Path("/")) -> int | None:
    """How many so far: in this process's control group where it has one, else on the whole machine; None if unknown.

    Source: ``oom_kill`` of ``memory.events`` (cgroup v2) and of ``/proc/vmstat``, which counts those of groups too.
    """
    groups = find_memory_groups(root).version_2
    for path in (*(level / "memory.events" for level in groups), root / "proc/vmstat"):
        found = _KILLS.search(read_text(path) or "")
        if found is not None:
            return int(found[1])
    return None
