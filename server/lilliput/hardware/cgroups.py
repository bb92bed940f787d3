"""Container limits of this process: cgroup v2 and v1, at every level from its own group up to the mount.

In a container without a cgroup namespace the path in ``/proc/self/cgroup`` is the host's and does not exist below the
mount; the mount itself then is the container's group. So every directory of the path that exists counts, and the mount.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lilliput.hardware.text import read_number, read_text

_UNLIMITED_BYTES = 2**62
"""Version 1 writes "no limit" as the largest page-aligned number, 9223372036854771712; anything near it is none."""

_STAT = re.compile(
    r"^((?:total_)?(?:in)?active_file|slab_reclaimable|hierarchical_memory_limit) (\d+)$", re.MULTILINE | re.ASCII
)
"""The lines of ``memory.stat`` that are read, of some forty."""


@dataclass(frozen=True, slots=True)
class CgroupMemory:
    """One limited group: its limit and what is used of it, page cache that can be reclaimed not counted."""

    path: str
    limit_bytes: int
    used_bytes: int

    @property
    def free_bytes(self) -> int:
        """What the group may still take, never negative."""
        return max(0, self.limit_bytes - self.used_bytes)


@dataclass(frozen=True, slots=True)
class MemoryGroups:
    """Where the limits and the pressure on this process's memory are told: found once, read often.

    A process that is moved to another group later is still looked for in these.
    """

    root: Path
    version_2: tuple[Path, ...]
    version_1: tuple[Path, ...]

    @property
    def pressure_file(self) -> Path | None:
        """The ``memory.pressure`` of its own group, or of the nearest one around it; None without one."""
        return next((file for level in self.version_2 if (file := level / "memory.pressure").is_file()), None)


def find_memory_groups(root: Path = Path("/")) -> MemoryGroups:
    """The groups of this process on the machine whose ``/proc`` and ``/sys`` lie under ``root``."""
    groups = _own_groups(root)
    return MemoryGroups(
        root,
        tuple(_levels(_v2_mount(root), groups.get("", "/"))),
        tuple(_levels(root / "sys/fs/cgroup/memory", groups.get("memory", "/"))),
    )


def memory_limits(root: Path = Path("/"), groups: MemoryGroups | None = None) -> tuple[CgroupMemory, ...]:
    """Every memory limit this process lives under, its own group's first; empty without cgroups or limits.

    ``groups`` are those of the same root, for one who asks often.
    """
    groups = groups or find_memory_groups(root)
    found = [_memory_v2(groups.root, level) for level in groups.version_2]
    found += [_memory_v1(groups.root, level) for level in groups.version_1]
    return tuple(limit for limit in found if limit is not None)


def cpu_quota_cores(root: Path = Path("/")) -> float | None:
    """Processors' worth of time the tightest cgroup quota grants (1.5 = one and a half), None without a quota."""
    groups = _own_groups(root)
    quotas = [_quota_v2(level) for level in _levels(_v2_mount(root), groups.get("", "/"))]
    for mount in ("cpu", "cpu,cpuacct"):
        quotas += [_quota_v1(level) for level in _levels(root / "sys/fs/cgroup" / mount, groups.get("cpu", "/"))]
    return min((quota for quota in quotas if quota is not None), default=None)


def _own_groups(root: Path) -> dict[str, str]:
    """Controller -> path of this process's group; version 2's path is under the empty name."""
    groups: dict[str, str] = {}
    for line in (read_text(root / "proc/self/cgroup") or "").splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            for controller in parts[1].split(","):
                groups[controller] = parts[2]
    return groups


def _v2_mount(root: Path) -> Path:
    hybrid = root / "sys/fs/cgroup/unified"
    return hybrid if hybrid.is_dir() else root / "sys/fs/cgroup"


def _levels(mount: Path, group: str) -> list[Path]:
    """Existing directories from the group up to the mount, innermost first."""
    parts = [part for part in PurePosixPath(group).parts if part not in ("/", "..")]
    levels = [mount.joinpath(*parts[:count]) for count in range(len(parts), -1, -1)]
    return [level for level in levels if level.is_dir()]


def _memory_v2(root: Path, level: Path) -> CgroupMemory | None:
    limits = [_number(level / name) for name in ("memory.max", "memory.high")]
    limit = _tightest(limits)
    if limit is None:
        return None
    stat = _stat(level / "memory.stat")
    reclaimable = sum(stat.get(key, 0) for key in ("inactive_file", "active_file", "slab_reclaimable"))
    used = (_number(level / "memory.current") or 0) - reclaimable
    return CgroupMemory(_shown(root, level), limit, max(0, used))


def _memory_v1(root: Path, level: Path) -> CgroupMemory | None:
    stat = _stat(level / "memory.stat")
    limit = _tightest([_number(level / "memory.limit_in_bytes"), stat.get("hierarchical_memory_limit")])
    if limit is None:
        return None
    reclaimable = sum(stat.get(f"total_{key}", stat.get(key, 0)) for key in ("inactive_file", "active_file"))
    used = (_number(level / "memory.usage_in_bytes") or 0) - reclaimable
    return CgroupMemory(_shown(root, level), limit, max(0, used))


def _quota_v2(level: Path) -> float | None:
    words = (read_text(level / "cpu.max") or "").split()
    if len(words) != 2 or not words[0].isdigit() or not words[1].isdigit() or int(words[1]) == 0:
        return None
    return int(words[0]) / int(words[1])


def _quota_v1(level: Path) -> float | None:
    quota, period = _number(level / "cpu.cfs_quota_us"), _number(level / "cpu.cfs_period_us")
    if quota is None or not period or quota <= 0:
        return None
    return quota / period


def _tightest(limits: list[int | None]) -> int | None:
    return min((limit for limit in limits if limit is not None and limit < _UNLIMITED_BYTES), default=None)


def _stat(path: Path) -> dict[str, int]:
    return {name: int(number) for name, number in _STAT.findall(read_text(path) or "")}


def _number(path: Path) -> int | None:
    number = read_number(path)
    return None if number is None or number < 0 else number


def _shown(root: Path, level: Path) -> str:
    return "/" + level.relative_to(root).as_posix()
