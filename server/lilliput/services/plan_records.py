"""A plan as everybody sees it: plain values in the shape of its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lilliput.fit import Budget, Choice, MemoryNeed
from lilliput.gguf import Variant
from lilliput.hardware import Hardware
from lilliput.units import MIB


@dataclass(frozen=True, slots=True)
class PlanDefaults:
    """What a plan assumes when nobody says otherwise, and how much of the machine it may use."""

    context_tokens: int = 8192
    slots: int = 8
    ubatch_tokens: int = 512
    reserve_bytes: int = 512 * MIB
    use_fraction: float = 0.8
    limit_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class DeviceNeed:
    """Bytes that a variant needs on one device."""

    weights: int
    kv: int
    compute: int
    overhead: int


@dataclass(frozen=True, slots=True)
class PlannedVariant:
    """One variant: its files, what it needs by device (``ram``), whether that fits, and why it was taken or not."""

    name: str
    files: tuple[str, ...]
    file_bytes: int
    need: Mapping[str, DeviceNeed]
    total_bytes: int
    fits: bool
    reason: str


@dataclass(frozen=True, slots=True)
class BudgetParts:
    """What may be used and what it is made of; ``because`` says which part decides."""

    total_bytes: int
    available_bytes: int
    reserve_bytes: int
    use_fraction: float
    limit_bytes: int | None
    budget_bytes: int
    because: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer to "what would fit?", best quality first; ``chosen`` is the name of one variant or None."""

    model: str
    machine: Mapping[str, Any]
    budget: BudgetParts
    context_tokens: int
    slots: int
    variants: tuple[PlannedVariant, ...]
    chosen: str | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The variant to download, why it was taken, and the whole plan."""

    variant: Variant
    reason: str
    plan: Plan


def make_plan(
    model: str,
    hardware: Hardware,
    budget: Budget,
    choice: Choice,
    files: Mapping[str, tuple[str, ...]],
    *,
    context_tokens: int,
    slots: int,
) -> Plan:
    """The plan that tells ``choice``; ``files`` are the paths of each candidate by its name."""
    return Plan(
        model=model,
        machine=hardware.to_json(),
        budget=BudgetParts(
            total_bytes=budget.total_bytes,
            available_bytes=budget.available_bytes,
            reserve_bytes=budget.reserve_bytes,
            use_fraction=budget.use_fraction,
            limit_bytes=budget.limit_bytes,
            budget_bytes=budget.budget_bytes,
            because=budget.because,
        ),
        context_tokens=context_tokens,
        slots=slots,
        variants=tuple(
            PlannedVariant(
                name=verdict.candidate.name,
                files=files[verdict.candidate.name],
                file_bytes=verdict.candidate.file_bytes,
                need={"ram": _device_need(verdict.candidate.need)},
                total_bytes=verdict.candidate.need.total_bytes,
                fits=verdict.fits,
                reason=verdict.reason,
            )
            for verdict in choice.verdicts
        ),
        chosen=None if choice.chosen is None else choice.chosen.candidate.name,
    )


def _device_need(need: MemoryNeed) -> DeviceNeed:
    return DeviceNeed(need.weights_bytes, need.kv_bytes, need.compute_bytes, need.overhead_bytes)
