"""What to begin with, and the steps from there: decided from a plan, nothing is asked or printed here."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from lilliput_client import Plan, UseCase, Variant
from lilliput_client.cli import formats, next_steps

_TRY = {
    "coding": "Write a function that merges overlapping intervals, then its tests.",
    "high-stakes": "Which of these sentences contradict each other? ...",
    "creative": "Begin a story in a lighthouse that nobody built.",
    "bulk": "Sort into complaint, question or praise: ...",
    "general": "Explain to a guest how tides work.",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One variant up or down from the start: what it costs and gains in words, the command that has it."""

    variant: Variant
    difference: str
    command: str


@dataclass(frozen=True, slots=True)
class Advice:
    """Where to start with a model (None if nothing fits), how to test it, and one step to either side."""

    plan: Plan
    use_case: UseCase | None
    start: Variant | None
    test: tuple[str, ...] = ()
    up: Step | None = None
    down: Step | None = None
    next_command: str | None = None


def advise(plan: Plan, use_case: UseCase | None) -> Advice:
    """The advice that follows from ``plan``, whose variants come best quality first."""
    start = plan.taken
    if start is None:
        return Advice(plan, use_case, None)
    place = plan.variants.index(start)
    better = [variant for variant in plan.variants[:place] if _is_real(variant)]
    lighter = [variant for variant in plan.variants[place + 1 :] if _is_real(variant) and _is_lighter(variant, start)]
    return Advice(
        plan,
        use_case,
        start,
        test=_test(plan, start),
        up=_step(plan, start, better[-1]) if better else None,
        down=_step(plan, start, lighter[0]) if lighter else None,
        next_command=_take(plan, start),
    )


def _is_real(variant: Variant) -> bool:
    return variant.exists and bool(variant.total_bytes)  # what cannot be loaded has no need


def _is_lighter(variant: Variant, start: Variant) -> bool:
    return (variant.total_bytes or 0) < (start.total_bytes or 0)


def _test(plan: Plan, start: Variant) -> tuple[str, ...]:
    """Have it, ask it something of the kind it is for, with the speed told."""
    model = shlex.quote(plan.model)
    ask = f"lilliput run {model} {shlex.quote(_TRY.get(plan.use_case or '', _TRY['general']))} --verbose"
    return (ask,) if next_steps.is_here(start) else (_take(plan, start), ask)


def _step(plan: Plan, start: Variant, other: Variant) -> Step:
    return Step(other, "; ".join(_differences(start, other)), _take(plan, other))


def _take(plan: Plan, variant: Variant) -> str:
    """The command that has it with the context that was planned, where that is not what everything gets."""
    special = plan.use_case is not None and plan.use_case != "general" and variant.setting is not None
    if not special or variant.setting is None:
        return next_steps.take(plan, variant)
    return next_steps.take(plan, variant, {"use_case": plan.use_case, "context": variant.setting.context_tokens})


def _differences(start: Variant, other: Variant) -> list[str]:
    told = []
    if start.file_bytes is not None and other.file_bytes is not None:
        told.append(f"{formats.change(other.file_bytes - start.file_bytes)} on disk")
    if start.total_bytes is not None and other.total_bytes is not None:
        told.append(f"{formats.change(other.total_bytes - start.total_bytes)} of memory")
    if start.tokens_per_s is not None and other.tokens_per_s is not None:
        told.append(f"{formats.speed(other.tokens_per_s)} instead of {formats.speed(start.tokens_per_s)} tokens/s")
    if start.quality is not None and other.quality is not None and other.quality.kld is not None:
        before, then = formats.divergence(start.quality.kld), formats.divergence(other.quality.kld)
        told.append(f"KLD {then} instead of {before}")
    if not other.fits:
        told.append(f"does not fit: {formats.text(other.reason)}")
        told.extend(other.near_misses)
    return told
