"""Container limits of this process: cgroup v2 and v1, at every level from its own group up to the mount.

In a container without a cgroup namespace the path in ``/proc/self/cgroup`` is the host's and does not exist below the
mount; the mount itself then is the container's group. So every directory of the path that exists counts, and the mount.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_UNLIMITED_BYTES = 2**62
"""Version 1 writes "no limit" as the largest page-aligned number, 9223372036854771712; anything near it is none."""


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


def memory_limits(root: Path = Path("/")) -> tuple[CgroupMemory, ...]:
    """Every memory limit this process lives under, its own group's first; empty without cgroups or limits."""
    groups = _own_groups(root)
    found = [_memory_v2(root, level) for level in _levels(_v2_mount(root), groups.get("", "/"))]
    found += [_memory_v1(root, level) for level in _levels(root / "sys/fs/cgroup/memory", groups.get("memory", "/"))]
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
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
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
    words = (_read(level / "cpu.max") or "").split()
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
    pairs = (line.split() for line in (_read(path) or "").splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _number(path: Path) -> int | None:
    text = (_read(path) or "").strip()
    return int(text) if text.isdigit() else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _shown(root: Path, level: Path) -> str:
    return "/" + level.relative_to(root).as_posix()
