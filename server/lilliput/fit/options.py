"""What there is to choose between: variants, the settings each might be loaded with, and what those would mean."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from lilliput.fit.need import MemoryNeed
from lilliput.fit.quality import Quality
from lilliput.fit.speed import Speed

RAM = "ram"
"""The name of system memory among the devices of a plan; the others have ggml's names."""

Offload = Literal["none", "partial", "full"]

_PLAIN_KV = frozenset({"f32", "f16", "bf16"})


@dataclass(frozen=True, slots=True)
class Setting:
    """How a variant would be loaded.

    ``gpu_layers`` counts the layers on accelerators, from 0 to the model's layers and one for its output: everything.
    Of those layers ``cpu_expert_layers`` keep their experts in system memory.
    """

    context_tokens: int
    slots: int
    kv_type: str = "f16"
    gpu_layers: int = 0
    cpu_expert_layers: int = 0

    @property
    def plain_kv(self) -> bool:
        """Whether the KV cache is kept in a floating-point type."""
        return self.kv_type.lower() in _PLAIN_KV


@dataclass(frozen=True, slots=True)
class Option:
    """One setting of one variant, judged: ``needs`` by device, speeds (None: not known), variant and KV's quality.

    ``estimated`` tells that some of the memory was not told by llama.cpp or the file's own header, ``margins`` how far
    it may be off, in bytes by device. ``tensor_split`` are the shares of the offloaded layers by which they were
    placed, one for each of several accelerators.
    """

    setting: Setting
    needs: Mapping[str, MemoryNeed]
    offload: Offload
    generation: Speed | None
    prompt: Speed | None
    quality: Quality
    estimated: bool
    tensor_split: tuple[float, ...] = ()
    margins: Mapping[str, int] = field(default_factory=dict)

    @property
    def total_bytes(self) -> int:
        """What it needs on all devices together."""
        return sum(need.total_bytes for need in self.needs.values())

    @property
    def accelerators(self) -> tuple[str, ...]:
        """The devices other than system memory that it needs anything of."""
        return tuple(name for name, need in self.needs.items() if name != RAM and need.total_bytes)

    def claims(self, unified: Collection[str] = ()) -> dict[str, int]:
        """Bytes by device that must be there for it: what it needs, and the margins of estimates.

        What it needs on ``unified`` devices, whose memory is the system's, counts there as well.
        """
        found = {name: need.total_bytes + self.margins.get(name, 0) for name, need in self.needs.items()}
        shared = sum(size for name, size in found.items() if name in unified and name != RAM)
        if shared:
            found[RAM] = found.get(RAM, 0) + shared
        return found


@dataclass(frozen=True, slots=True)
class Candidate:
    """A variant that might be taken; ``name`` is unique among the candidates.

    ``problem`` says why it cannot be loaded at all, None if it can. A candidate that does not exist would be made by a
    quantization: it is judged like the others and never chosen.
    """

    name: str
    quantization: str | None
    file_bytes: int
    options: tuple[Option, ...]
    problem: str | None = None
    exists: bool = True
