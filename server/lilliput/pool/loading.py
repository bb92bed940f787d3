"""How a model is to be loaded, as the pool is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from lilliput.catalogue import InstalledModel
from lilliput.engine import Role
from lilliput.fit import RAM, MemoryNeed, Offload
from lilliput.llama import ContextSettings, Rope, pooled_context
from lilliput.pool.terms import OPEN_TERMS, Terms


@dataclass(frozen=True, slots=True)
class DraftPlan:
    """The model that drafts beside another one, and how its file is loaded: as in ``LoadPlan``, which its context is
    like.
    """

    model: str
    path: str
    gpu_layers: int = 0
    cpu_expert_layers: int = 0
    tensor_split: tuple[float, ...] = ()
    rope: Rope | None = None


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """How a model will be loaded: ``context_tokens`` shared by ``slots`` sequences, and what that needs by device.

    ``max_sequences`` are the KV sequences of the context: the slots, and those kept for their prefixes;
    ``store_bytes`` are for prefixes that leave the KV cache, beside what is needed. ``gpu_layers`` and the rest as in
    ``llama.ModelSettings`` and ``llama.ContextSettings``; 0 ``threads`` are the pool's. ``width`` bounds the sequences
    that are decoded together (0: the slots do), ``repack`` False leaves weights as the file has them. For other roles
    than to generate it matters whether attention is ``causal``: else an input goes through in one piece. ``offload``
    says how much of the model goes to accelerators; ``terms`` are what it was made on, and ``ways`` say what would help
    where it does not fit. What ``draft`` needs is counted in; ``draft_note`` is what to say of it, or why one that was
    agreed on is left out.
    """

    context_tokens: int
    slots: int
    max_sequences: int
    needs: Mapping[str, MemoryNeed]
    tensor_types: frozenset[str]
    gpu_layers: int = 0
    cpu_expert_layers: int = 0
    tensor_split: tuple[float, ...] = ()
    kv_type: str = "f16"
    store_bytes: int = 0
    role: Role = "generate"
    causal: bool = True
    flash_attention: bool | None = None
    threads: int = 0
    batch_threads: int = 0
    ubatch_tokens: int = 512
    width: int = 0
    repack: bool = True
    memory_map: bool = True
    memory_lock: bool = False
    offload: Offload = "none"
    rope: Rope | None = None
    draft: DraftPlan | None = None
    draft_note: str | None = None
    terms: Terms = OPEN_TERMS
    ways: tuple[str, ...] = ()

    @property
    def running(self) -> int:
        """Sequences that are decoded together at most; others wait in order."""
        return min(self.slots, self.width) if self.width else self.slots

    def context(self, threads: int) -> ContextSettings:
        """The context that an engine makes, with ``threads`` where the plan has no wish of its own."""
        if self.role != "generate":
            return pooled_context(self.context_tokens, causal=self.causal, kv_type=self.kv_type, threads=threads)
        return ContextSettings(
            context_tokens=self.context_tokens,
            max_sequences=self.max_sequences,
            output_rows=self.max_sequences,
            ubatch_tokens=self.ubatch_tokens,
            threads=self.threads or threads,
            batch_threads=self.batch_threads or threads,
            flash_attention=self.flash_attention,
            kv_type=self.kv_type,
            rope=self.rope,
        )

    @property
    def reserved(self) -> Mapping[str, MemoryNeed]:
        """What it needs and the store for prefixes, which fills only by and by."""
        if not self.store_bytes or RAM not in self.needs:
            return self.needs
        main = self.needs[RAM]
        return {**self.needs, RAM: replace(main, overhead_bytes=main.overhead_bytes + self.store_bytes)}

    @property
    def total_bytes(self) -> int:
        """What it needs on all devices together."""
        return sum(need.total_bytes for need in self.needs.values())


class LoadPlanner(Protocol):
    """Decides how a model is loaded."""

    async def plan_load(
        self, model: InstalledModel, room: Mapping[str, int], role: Role = "generate", asked: Terms | None = None
    ) -> LoadPlan:
        """The best way to load ``model`` into ``room`` (bytes by device), or the least one when none fits.

        ``asked`` goes before the terms that were agreed on earlier. Raises BadFile for a file that cannot be loaded,
        InvalidRequest for a role that it was not made for or terms that it cannot have, DoesNotFit for a floor.
        """
        ...
