"""How a model is to be loaded, as the pool is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from lilliput.catalogue import InstalledModel
from lilliput.fit import MemoryNeed


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """How a model will be loaded: ``context_tokens`` shared by ``slots`` sequences, and what that needs by device.

    ``max_sequences`` are the KV sequences of the context: the slots, and those kept for their prefixes. ``gpu_layers``
    and the rest as in ``llama.ModelSettings``.
    """

    context_tokens: int
    slots: int
    max_sequences: int
    needs: Mapping[str, MemoryNeed]
    tensor_types: frozenset[str]
    gpu_layers: int = 0
    cpu_expert_layers: int = 0
    kv_type: str = "f16"

    @property
    def total_bytes(self) -> int:
        """What it needs on all devices together."""
        return sum(need.total_bytes for need in self.needs.values())


class LoadPlanner(Protocol):
    """Decides how a model is loaded."""

    async def plan_load(self, model: InstalledModel, room: Mapping[str, int]) -> LoadPlan:
        """The best way to load ``model`` into ``room`` (bytes by device), or the least one when none fits.

        Raises BadFile for a file that cannot be loaded.
        """
        ...
