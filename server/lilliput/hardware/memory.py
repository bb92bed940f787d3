"""How much memory there is and how much of it can be had now, container limits included."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

from lilliput.hardware.cgroups import MemoryGroups, memory_limits
from lilliput.hardware.sysctl import sysctl_number
from lilliput.hardware.text import read_text
from lilliput.units import GIB, MIB


@dataclass(frozen=True, slots=True)
class Memory:
    """System memory in bytes; all but ``host_total_bytes`` and the swap respect container limits.

    ``available_bytes`` is what new work can take without swapping: free memory and reclaimable page cache.
    ``limited_by`` names the control group that leaves the least, None if the machine itself is the limit.
    ``gpu_working_set_bytes`` is the part of unified memory that macOS lets the GPU hold, None elsewhere.
    """

    total_bytes: int
    available_bytes: int
    host_total_bytes: int
    swap_total_bytes: int | None = None
    swap_free_bytes: int | None = None
    limited_by: str | None = None
    gpu_working_set_bytes: int | None = None


def read_memory(root: Path = Path("/"), groups: MemoryGroups | None = None) -> Memory:
    """The memory of the machine whose ``/proc`` and ``/sys`` lie under ``root``; psutil where there is no /proc.

    ``groups`` are the control groups of the same root, for one who asks often.
    """
    host = _from_proc(root) or _from_psutil()
    total, available, limited_by = host.total_bytes, host.available_bytes, None
    for limit in memory_limits(root, groups):
        total = min(total, limit.limit_bytes)
        if limit.free_bytes < available:
            available, limited_by = limit.free_bytes, limit.path
    return Memory(
        total_bytes=total,
        available_bytes=available,
        host_total_bytes=host.total_bytes,
        swap_total_bytes=host.swap_total_bytes,
        swap_free_bytes=host.swap_free_bytes,
        limited_by=limited_by,
        gpu_working_set_bytes=_gpu_working_set(host.total_bytes),
    )


def default_gpu_working_set_bytes(total_bytes: int) -> int:
    """What macOS lets the GPU of a Mac with this much memory hold by default: 2/3 below 36 GiB, 3/4 from there on.

    Apple publishes the value only at run time (``MTLDevice.recommendedMaxWorkingSetSize``), not the rule. These are the
    fractions that llama.cpp's Metal log shows: 5726.63 MB of 8 GiB, 11453.25 of 16, 22906.50 of 32, 28991.03 of 36,
    51539.61 of 64, 154618.82 of 192. Newer systems grant more (12713.12 MB of 16 GiB), so this errs on the safe side.
    """
    return total_bytes * 2 // 3 if total_bytes < 36 * GIB else total_bytes * 3 // 4


def _gpu_working_set(total_bytes: int) -> int | None:
    """The limit set by ``iogpu.wired_limit_mb`` (0 means the default), None where there is no such setting.

    Intel Macs do not have it: their memory is not unified.
    """
    limit_mib = sysctl_number("iogpu.wired_limit_mb")
    if limit_mib is None:
        return None
    return min(limit_mib * MIB, total_bytes) if limit_mib > 0 else default_gpu_working_set_bytes(total_bytes)


def _from_proc(root: Path) -> Memory | None:
    text = read_text(root / "proc/meminfo")
    if text is None:
        return None
    sizes: dict[str, int] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        number = value.split()
        if number and number[0].isdigit():
            sizes[name] = int(number[0]) * 1024
    total = sizes.get("MemTotal")
    if total is None:
        return None
    estimate = sizes.get("MemFree", 0) + sizes.get("Buffers", 0) + sizes.get("Cached", 0)  # kernels before 3.14
    available = min(sizes.get("MemAvailable", estimate), total)
    return Memory(total, available, total, sizes.get("SwapTotal"), sizes.get("SwapFree"))


def _from_psutil() -> Memory:
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    return Memory(memory.total, memory.available, memory.total, swap.total, swap.free)
