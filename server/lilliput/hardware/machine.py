"""The machine as one value, and the key under which what was learned about it is remembered."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lilliput.hardware.cpu import Cpu, read_cpu
from lilliput.hardware.memory import Memory, read_memory


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A device that holds and computes layers; ``kind`` is ggml's word ("gpu", "igpu", "accel")."""

    name: str
    description: str
    kind: str
    total_bytes: int
    free_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Hardware:
    """What this machine has at one moment."""

    system: str
    release: str
    cpu: Cpu
    memory: Memory
    accelerators: tuple[Accelerator, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; unknown facts are null."""
        return asdict(self) | {"fingerprint": fingerprint(self.cpu)}


def read_hardware(root: Path = Path("/"), accelerators: Iterable[Accelerator] = ()) -> Hardware:
    """Read this machine now; ``accelerators`` come from whoever may ask llama.cpp."""
    return Hardware(
        system=platform.system(),
        release=platform.release(),
        cpu=read_cpu(root),
        memory=read_memory(root),
        accelerators=tuple(accelerators),
    )


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
