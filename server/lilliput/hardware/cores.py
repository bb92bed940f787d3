"""How the cores are laid out: NUMA nodes, the two kinds of core of a hybrid processor, the last-level cache."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lilliput.hardware.sysctl import sysctl_number

_LITTLE = 0.6
"""An ARM core below this share of the largest core's capacity counts as an efficiency core.

``cpu_capacity`` scales with clock and width: published device trees give little cores 20-50 % and middle cores 70-95 %.
"""


@dataclass(frozen=True, slots=True)
class CoreKinds:
    """Physical cores of each kind, on a processor that has two."""

    performance: int
    efficiency: int


def read_core_kinds(root: Path) -> CoreKinds | None:
    """The kinds of core, None when all are alike or nothing is known.

    Sources: the two performance-counter devices of Intel hybrids, ``cpu_capacity`` where the kernel knows it, and
    ``hw.perflevel0`` (fast) and ``hw.perflevel1`` on macOS.
    """
    return _intel_hybrid(root) or _by_capacity(root) or _mac()


def count_numa_nodes(root: Path) -> int | None:
    """Memory nodes that are online, None where the kernel does not say."""
    numbers = parse_list(_text(root / "sys/devices/system/node/online"))
    return None if numbers is None else len(numbers)


def last_level_cache_bytes(root: Path = Path("/")) -> int | None:
    """The largest caches of the machine summed over all their instances, None when unknown."""
    instances: dict[str, tuple[int, int]] = {}
    for directory in (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cache/index[0-9]*"):
        level, size = _text(directory / "level"), re.fullmatch(r"(\d+)K", _text(directory / "size"))
        if level.isdigit() and size is not None:
            key = f"{level}:{_text(directory / 'shared_cpu_list') or directory.parent.parent.name}"
            instances[key] = (int(level), int(size.group(1)) * 1024)
    if not instances:
        return sysctl_number("hw.l3cachesize") or sysctl_number("hw.l2cachesize")
    last = max(level for level, _ in instances.values())
    return sum(size for level, size in instances.values() if level == last)


def parse_list(text: str) -> frozenset[int] | None:
    """The numbers that a kernel list such as ``0-3,8`` names; None when it is not one."""
    numbers: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdigit() or not (last or first).isdigit():
            return None
        numbers.update(range(int(first), int(last or first) + 1))
    return frozenset(numbers)


def _intel_hybrid(root: Path) -> CoreKinds | None:
    fast, slow = (parse_list(_text(root / f"sys/devices/{kind}/cpus")) for kind in ("cpu_core", "cpu_atom"))
    return _kinds(root, fast or frozenset(), slow or frozenset())


def _by_capacity(root: Path) -> CoreKinds | None:
    capacities: dict[int, int] = {}
    for path in (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpu_capacity"):
        text = _text(path)
        if text.isdigit():
            capacities[int(path.parent.name.removeprefix("cpu"))] = int(text)
    least = _LITTLE * max(capacities.values(), default=0)
    fast = frozenset(number for number, capacity in capacities.items() if capacity >= least)
    return _kinds(root, fast, frozenset(capacities) - fast)


def _kinds(root: Path, fast: frozenset[int], slow: frozenset[int]) -> CoreKinds | None:
    if not fast or not slow:
        return None
    return CoreKinds(_physical(root, fast), _physical(root, slow))


def _physical(root: Path, logical: frozenset[int]) -> int:
    """Physical cores among these logical ones; each counts for itself where the kernel tells no topology."""
    cores = set()
    for number in logical:
        topology = root / f"sys/devices/system/cpu/cpu{number}/topology"
        core = _text(topology / "core_id")
        cores.add((_text(topology / "physical_package_id"), core) if core else ("logical", str(number)))
    return len(cores)


def _mac() -> CoreKinds | None:
    fast, slow = (sysctl_number(f"hw.perflevel{level}.physicalcpu") for level in (0, 1))
    return CoreKinds(fast, slow) if fast and slow else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
