"""The processor: what it is, how many cores there are, how many may be used, which vector instructions it announces."""

from __future__ import annotations

import math
import platform
import re
from dataclasses import dataclass
from pathlib import Path

import psutil

from lilliput.hardware.cgroups import cpu_quota_cores
from lilliput.hardware.cores import count_numa_nodes, parse_list, read_core_kinds
from lilliput.hardware.sysctl import sysctl_text

_SIMD = re.compile(
    r"ssse3|sse4_[12]|avx.*|f16c|fma|bmi2|amx.*|gfni|asimd.*|neon|fphp|i8mm|bf16|sve.*|sme(?!p).*|altivec|vsx|rvv|lasx|lsx"
)


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processor as the system describes it; what it does not tell is None.

    ``simd`` are the announced vector and matrix instruction sets, sorted; a hypervisor may forbid some of them.
    ``usable_cores`` respects the affinity of this process and container quotas (at least 1).
    ``performance_cores`` and ``efficiency_cores`` are physical ones, None where all cores are alike or nobody tells.
    """

    model: str | None
    architecture: str
    physical_cores: int | None
    logical_cores: int | None
    usable_cores: int
    simd: tuple[str, ...] | None
    numa_nodes: int | None = None
    performance_cores: int | None = None
    efficiency_cores: int | None = None

    @property
    def compute_threads(self) -> int:
        """Threads that make sense for matrix work: one a physical core, no more than may be used.

        Where cores are of two kinds only the fast ones count: a step ends with its slowest thread.
        """
        return min(self.performance_cores or self.physical_cores or self.usable_cores, self.usable_cores)


def read_cpu(root: Path = Path("/")) -> Cpu:
    """The processor of the machine whose ``/proc`` and ``/sys`` lie under ``root``; psutil fills the gaps."""
    blocks = _blocks(root)
    logical = sum(1 for block in blocks if "processor" in block) or psutil.cpu_count()
    physical = _physical(blocks) or psutil.cpu_count(logical=False)
    if logical is not None and physical is not None:
        physical = min(physical, logical)
    kinds = read_core_kinds(root)
    return Cpu(
        model=_model(blocks) or sysctl_text("machdep.cpu.brand_string") or platform.processor() or None,
        architecture=platform.machine(),
        physical_cores=physical,
        logical_cores=logical,
        usable_cores=_usable(root, logical),
        simd=_simd(blocks),
        numa_nodes=count_numa_nodes(root),
        performance_cores=None if kinds is None else kinds.performance,
        efficiency_cores=None if kinds is None else kinds.efficiency,
    )


def _blocks(root: Path) -> list[dict[str, str]]:
    """``/proc/cpuinfo`` as one mapping a processor; empty where there is no such file."""
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    blocks = []
    for part in text.split("\n\n"):
        pairs = (line.partition(":") for line in part.splitlines())
        block = {name.strip(): value.strip() for name, separator, value in pairs if separator}
        if block:
            blocks.append(block)
    return blocks


def _model(blocks: list[dict[str, str]]) -> str | None:
    for key in ("model name", "Model", "Hardware", "cpu model", "uarch"):
        for block in blocks:
            if block.get(key):
                return block[key]
    return None


def _physical(blocks: list[dict[str, str]]) -> int | None:
    cores = {(block.get("physical id", "0"), block["core id"]) for block in blocks if "core id" in block}
    return len(cores) or None


def _simd(blocks: list[dict[str, str]]) -> tuple[str, ...] | None:
    for block in blocks:
        flags = block.get("flags") or block.get("Features")
        if flags is not None:
            return tuple(sorted({flag for flag in flags.split() if _SIMD.fullmatch(flag)}))
    return None


def _usable(root: Path, logical: int | None) -> int:
    bounds = [logical, _affinity(root), _whole(cpu_quota_cores(root))]
    return max(1, min((bound for bound in bounds if bound is not None), default=1))


def _whole(quota: float | None) -> int | None:
    return None if quota is None else math.floor(quota)


def _affinity(root: Path) -> int | None:
    try:
        status = (root / "proc/self/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return _affinity_from_psutil()
    found = re.search(r"^Cpus_allowed_list:\s*(\S+)", status, re.MULTILINE)
    allowed = None if found is None else parse_list(found.group(1))
    return None if allowed is None else len(allowed)


def _affinity_from_psutil() -> int | None:
    affinity = getattr(psutil.Process(), "cpu_affinity", None)  # macOS has none
    return None if affinity is None else len(affinity()) or None
