"""The machine as one value, and the key under which what was learned about it is remembered."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lilliput.hardware.accelerator import Accelerator
from lilliput.hardware.cpu import Cpu, read_cpu
from lilliput.hardware.memory import Memory, read_memory
from lilliput.hardware.nvidia import with_nvidia


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a machine has at one moment: this one, or one that ``described`` names.

    ``bandwidth_bytes_s`` is the read bandwidth of system memory, None until measured. It is the caches' and memory may
    be slower when ``bandwidth_cache_bound``; that is None when unknown. ``unified`` says that the accelerators have no
    memory of their own: what they take, they take from ``memory``. ``accelerators_problem`` says why they are not
    known, or not as they are now.
    """

    system: str
    release: str
    cpu: Cpu
    memory: Memory
    accelerators: tuple[Accelerator, ...] = ()
    described: str | None = None
    bandwidth_bytes_s: float | None = None
    bandwidth_cache_bound: bool | None = None
    unified: bool = False
    accelerators_problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; unknown facts are null."""
        return asdict(self) | {"fingerprint": fingerprint(self.cpu)}


def read_hardware(
    root: Path = Path("/"),
    accelerators: Iterable[Accelerator] = (),
    *,
    own_pids: Iterable[int] = (),
    bandwidth_bytes_s: float | None = None,
    bandwidth_cache_bound: bool | None = None,
    accelerators_problem: str | None = None,
) -> Hardware:
    """Read this machine now; ``accelerators`` come from whoever may ask llama.cpp, the bandwidth from who measured it.

    ``own_pids`` are our processes besides this one: their memory on NVIDIA cards does not count as that of others.
    """
    memory = read_memory(root)
    found = with_nvidia(tuple(accelerators), own_pids=own_pids)
    return Hardware(
        system=platform.system(),
        release=platform.release(),
        cpu=read_cpu(root),
        memory=memory,
        accelerators=found,
        bandwidth_bytes_s=bandwidth_bytes_s,
        bandwidth_cache_bound=bandwidth_cache_bound,
        unified=memory.gpu_working_set_bytes is not None or _only_integrated(found),
        accelerators_problem=accelerators_problem,
    )


def _only_integrated(accelerators: Iterable[Accelerator]) -> bool:
    kinds = {accelerator.kind for accelerator in accelerators} & {"gpu", "igpu"}
    return kinds == {"igpu"}


def fingerprint(cpu: Cpu) -> str:
    """A key (16 hex digits) that is equal on machines of the same processor, instruction sets and core counts."""
    facts = (
        cpu.model or "",
        cpu.architecture,
        " ".join(cpu.simd or ()),
        str(cpu.physical_cores),
        str(cpu.logical_cores),
    )
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
