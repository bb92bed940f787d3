"""What a load gives up after one that failed for want of memory, step by step. Pure: values in, decision out.

The rungs of safe CPU settings come first (``engine/safety.py``). Then the planner is asked again, for less memory than
the plan that failed had reckoned with: on accelerators first, which puts fewer layers there, then in main memory, which
makes a smaller KV cache: quantized, then shorter. What somebody has asked for is never changed.
"""

from __future__ import annotations

from collections.abc import Mapping

from lilliput.errors import DoesNotFit, EngineDied, EngineError, EngineLoadFailed
from lilliput.fit import RAM, MemoryNeed
from lilliput.pool.loading import LoadPlan
from lilliput.units import format_bytes

SHRINKING = 0.85
"""The part of what a failed plan needed on a device that the next one may take of it."""

MOST_STEPS = 8
"""So often a load is tried on smaller terms; 0.85 to this power leaves a quarter."""

_WORDS = (
    "failed to allocate",
    "unable to allocate",
    "cannot allocate memory",
    "insufficient memory",
    "bad_alloc",
    "out of memory",
    "outofdevicememory",
    "memoryerror",
    "can't start new thread",
)
"""In llama.cpp's and the system's last words, when there was too little memory."""

_SIGKILL = 9


def memory_is_to_blame(error: EngineError, *, oom_killed: bool) -> bool:
    """Whether an engine failed because memory was short, as far as can be seen.

    ``oom_killed``: the system has ended some process for want of memory since the engine was started.
    """
    if not isinstance(error, EngineDied | EngineLoadFailed):
        return False
    said = " ".join((error.message, *error.log_tail)).lower()
    killed = isinstance(error, EngineDied) and error.signal_number == _SIGKILL
    return (killed and oom_killed) or any(word in said for word in _WORDS)


def less_than(plan: LoadPlan, limits: Mapping[str, int], *, in_ram: bool = False) -> dict[str, int]:
    """Limits in bytes by device for the plan after one that failed; ``in_ram``: for one with less of main memory."""
    accelerators = [name for name in plan.needs if name != RAM] if plan.gpu_layers and not in_ram else []
    smaller = {name: int(plan.needs[name].total_bytes * SHRINKING) for name in accelerators or [RAM]}
    return {**limits, **{name: min(size, limits.get(name, size)) for name, size in smaller.items()}}


def within(room: Mapping[str, int], limits: Mapping[str, int]) -> dict[str, int]:
    """The room that is left of it when no device may be used beyond its limit."""
    return {name: min(size, limits.get(name, size)) for name, size in room.items()}


def given_up(before: LoadPlan, after: LoadPlan) -> str:
    """What the second plan has less of than the first, in words."""
    parts = []
    if after.gpu_layers < before.gpu_layers:
        parts.append(f"{after.gpu_layers} instead of {before.gpu_layers} layers on accelerators")
    if after.kv_type != before.kv_type:
        parts.append(f"a KV cache in {after.kv_type} instead of {before.kv_type}")
    if after.context_tokens < before.context_tokens:
        parts.append(f"a context of {after.context_tokens} instead of {before.context_tokens} tokens")
    if after.slots < before.slots:
        parts.append(f"{after.slots} instead of {before.slots} slots")
    saved = before.total_bytes - after.total_bytes
    return " and ".join(parts) or f"{format_bytes(max(0, saved))} less"


class Concessions:
    """What one model's loads have given up so far, because engines failed. Used by one task at a time.

    ``limits`` are bytes by device that its next plan must keep to; ``wanted`` is the plan that failed first.
    """

    def __init__(self) -> None:
        self.limits: Mapping[str, int] = {}
        self.wanted: LoadPlan | None = None
        self.steps: list[str] = []
        self._failed: tuple[LoadPlan, str] | None = None

    def note_failure(self, plan: LoadPlan, error: EngineError) -> bool:
        """A plan failed for want of memory; whether a smaller one may be tried."""
        self.wanted = self.wanted or plan
        self.limits = less_than(plan, self.limits)
        self._failed = plan, error.message
        return len(self.steps) < MOST_STEPS

    def note_shortage(self, plan: LoadPlan, because: str) -> None:
        """Main memory is short while an engine serves: its next plan takes less of that."""
        self.wanted = self.wanted or plan
        self.limits = less_than(plan, self.limits, in_ram=True)
        self._failed = plan, because

    def note_plan(self, plan: LoadPlan) -> tuple[LoadPlan, str] | None:
        """The next plan is this one; the one before it, and what is given up and why; None where nothing had failed."""
        if self._failed is None:
            return None
        (before, because), self._failed = self._failed, None
        self.steps.append(f"{given_up(before, plan)} (because {because})")
        return before, self.steps[-1]

    def refusal(self, name: str, least: LoadPlan) -> DoesNotFit:
        """The error when there is nothing smaller than what failed; ``least`` is the smallest plan."""
        assert self.wanted is not None
        _, because = self._failed or (None, "it did not fit")
        tried = "; ".join(("as it was planned", *self.steps))
        ending = "There is no smaller way" if len(self.steps) < MOST_STEPS else "Nothing smaller than that is tried"
        return DoesNotFit(
            f"{name} could not be loaded, memory is short: {because}. Tried: {tried}. {ending}",
            need_bytes=least.total_bytes,
            budget_bytes=sum(self.limits.get(device, 0) for device in least.needs),
            hint=f"stop other programs or models, or pull a smaller variant: lilliput plan {name}",
        )


def keeps_to(needs: Mapping[str, MemoryNeed], limits: Mapping[str, int]) -> bool:
    """Whether no device is used beyond its limit."""
    return all(need.total_bytes <= limits.get(device, need.total_bytes) for device, need in needs.items())
