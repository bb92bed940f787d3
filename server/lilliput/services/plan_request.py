"""What a plan is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lilliput.errors import InvalidRequest
from lilliput.fit import KV_TYPES
from lilliput.llama import Rope
from lilliput.services.long_context import check_rope
from lilliput.units import MIB

MOST_SEQUENCES = 256
"""What llama.cpp bears in one context."""

LEAST_CONTEXT_TOKENS = 256
"""What llama.cpp rounds contexts up to."""


@dataclass(frozen=True, slots=True)
class PlanDefaults:
    """What a plan assumes when nobody says otherwise, and how much of the machine it may use."""

    context_tokens: int = 8192
    slots: int = 8
    ubatch_tokens: int = 512
    reserve_bytes: int = 512 * MIB
    use_fraction: float = 0.8
    limit_bytes: int | None = None
    vram_reserve_bytes: int = 256 * MIB
    vram_use_fraction: float = 0.95
    vram_limit_bytes: int | None = None
    store_bytes: int = 0


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What is asked of a plan; None leaves the choice to it, and what is given is never changed.

    ``machine`` is the name of a described machine or the table of one; ``budget_bytes`` a limit of main memory;
    ``every_type`` asks about variants that a quantization would make, too. ``as_if_unloaded`` are models whose engines
    count as gone although they work. ``mmproj`` and ``lora`` are a projector and an adapter to be loaded beside: local
    paths, or files of the model's repository.
    """

    model: str
    context_tokens: int | Literal["max"] | None = None
    use_case: str | None = None
    slots: int | None = None
    kv_type: str | None = None
    gpu_layers: int | None = None
    machine: str | Mapping[str, Any] | None = None
    budget_bytes: int | None = None
    every_type: bool = False
    as_if_unloaded: frozenset[str] = frozenset()
    mmproj: str | None = None
    lora: str | None = None
    rope: Rope | None = None

    @property
    def open(self) -> bool:
        """Whether it leaves open where and how the model is loaded."""
        how = (self.slots, self.kv_type, self.gpu_layers, self.rope)
        asked = (self.context_tokens, self.use_case, *how, self.machine)
        return all(value is None for value in asked)

    def check(self) -> None:
        """InvalidRequest for values that no plan can have."""
        numbers = {"context": self.context_tokens, "slots": self.slots, "budget": self.budget_bytes}
        for param, value in numbers.items():
            if isinstance(value, int) and value < 1:
                raise InvalidRequest(f"{param} is {value}, but must be at least 1", param=param)
        if self.slots is not None and self.slots > MOST_SEQUENCES:
            raise InvalidRequest(f"slots is {self.slots}, but must be at most {MOST_SEQUENCES}", param="slots")
        if isinstance(self.context_tokens, int) and self.context_tokens < LEAST_CONTEXT_TOKENS:
            raise InvalidRequest(
                f"context is {self.context_tokens}, but must be at least {LEAST_CONTEXT_TOKENS}", param="context"
            )
        if self.kv_type is not None and self.kv_type.lower() not in KV_TYPES:
            hint = f"one of {', '.join(KV_TYPES)}"
            raise InvalidRequest(f"{self.kv_type!r} is no type for a KV cache", hint=hint, param="kv")
        if self.rope is not None:
            check_rope(self.rope)
