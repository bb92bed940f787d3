"""A plan as everybody sees it: plain values in the shape of its JSON, whose version is ``PLAN_VERSION``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lilliput.fit import (
    ESTIMATE_MARGIN,
    RAM,
    Budget,
    Choice,
    MemoryNeed,
    Option,
    Quality,
    Setting,
    Speed,
    Verdict,
    Wish,
)
from lilliput.gguf import Variant
from lilliput.llama import Rope
from lilliput.services.machine import Site
from lilliput.units import format_bytes

PLAN_VERSION = 1

_MAPPED = "weights in main memory are memory-mapped: clean page cache, which the system may drop and read again"
_COPIED = (
    "; what the CPU backend repacks of them (weights_copied) is a copy in anonymous memory, which stays, and its"
    " original in the file (weights_idle) is not counted: nobody reads it again"
)
_ABSENT = (
    "this build cannot be asked about the machine's accelerators: scratch there is taken from the CPU's, an estimate"
)
_ESTIMATED = (
    "estimates leave room for their margin: of scratch on devices that cannot be asked, and of the layers of files"
    " whose headers were not read"
)
_UNIFIED = "the accelerators use main memory: what they hold is counted in ram as well"
_ASSUMED = "speeds are assumed from memory bandwidth; they get nearer once this machine has been measured"
_DESCRIBED = "a described machine: its available memory is an assumption, and its speeds are told from bandwidth"


@dataclass(frozen=True, slots=True)
class DeviceNeed:
    """Bytes that a variant needs on one device: the sum of the first four.

    In main memory ``weights`` are ``weights_mapped`` of the file and ``weights_copied`` in anonymous memory; mapped
    originals of the copies are ``weights_idle``, beside what is needed. All three are 0 elsewhere.
    """

    weights: int
    kv: int
    compute: int
    overhead: int
    weights_mapped: int = 0
    weights_copied: int = 0
    weights_idle: int = 0


@dataclass(frozen=True, slots=True)
class PlannedVariant:
    """One variant: its files, the setting it would get, what that needs by device, speed, quality, and the verdict.

    ``exists`` is False for what a quantization would make. ``margin_bytes`` is how far an estimate may be off, for
    which room is left; None where llama.cpp and the file's own header told all. ``pss_bytes`` is the proportional set
    size that the engine's process would show when it has touched all it takes; None with accelerators, whose drivers
    map what they like.
    """

    name: str
    files: tuple[str, ...]
    file_bytes: int
    exists: bool
    need: Mapping[str, DeviceNeed]
    total_bytes: int
    setting: Setting | None
    offload: str | None
    estimated: bool
    margin_bytes: int | None
    tokens_per_s: Speed | None
    prompt_tokens_per_s: Speed | None
    quality: Quality | None
    fits: bool
    reason: str
    near_misses: tuple[str, ...]
    pss_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class BudgetParts:
    """What may be used of one device and what it is made of; ``because`` says which part decides."""

    total_bytes: int
    available_bytes: int
    reserve_bytes: int
    promised_bytes: int
    held_bytes: int
    use_fraction: float
    limit_bytes: int | None
    budget_bytes: int
    because: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer to "what would fit?", best quality first; ``chosen`` is the name of one variant or None.

    ``rope`` are the rope settings in place of the file's, if any were asked for.
    """

    version: int
    model: str
    use_case: str
    machine: Mapping[str, Any]
    budget: Mapping[str, BudgetParts]
    context_tokens: int
    slots: int
    objective: str
    summary: str
    variants: tuple[PlannedVariant, ...]
    chosen: str | None
    notes: tuple[str, ...]
    rope: Rope | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @property
    def fitting(self) -> frozenset[str]:
        """Names of the variants that exist and fit, whatever the floor says of them."""
        return frozenset(one.name for one in self.variants if one.fits and one.exists)

    def variant(self, name: str) -> PlannedVariant:
        """The variant of this name; KeyError when there is none."""
        for variant in self.variants:
            if variant.name == name:
                return variant
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The variant to download, why it was taken, the whole plan, and how the variant would be loaded."""

    variant: Variant
    reason: str
    plan: Plan
    setting: Setting | None = None


def make_plan(
    model: str, site: Site, wish: Wish, choice: Choice, files: Mapping[str, tuple[str, ...]], refused: str | None
) -> Plan:
    """The plan that tells ``choice``; ``files`` are the paths of each candidate by its name.

    ``refused`` is what llama.cpp said when it would not plan the model and a formula had to.
    """
    return Plan(
        version=PLAN_VERSION,
        model=model,
        use_case=wish.use_case.name,
        machine=site.hardware.to_json(),
        budget={name: _parts(budget) for name, budget in site.budgets.items()},
        context_tokens=wish.context_tokens,
        slots=wish.slots,
        objective=choice.objective,
        summary=choice.summary,
        variants=tuple(_variant(verdict, files[verdict.candidate.name]) for verdict in choice.verdicts),
        chosen=None if choice.chosen is None else choice.chosen.candidate.name,
        notes=tuple(_notes(site, choice, refused)),
    )


def _variant(verdict: Verdict, files: tuple[str, ...]) -> PlannedVariant:
    candidate, option = verdict.candidate, verdict.option
    return PlannedVariant(
        name=candidate.name,
        files=files,
        file_bytes=candidate.file_bytes,
        exists=candidate.exists,
        need={} if option is None else {name: _need(name, need) for name, need in option.needs.items()},
        total_bytes=0 if option is None else option.total_bytes,
        setting=option.setting if option else None,
        offload=option.offload if option else None,
        estimated=option is not None and option.estimated,
        margin_bytes=_margin(option),
        tokens_per_s=option.generation if option else None,
        prompt_tokens_per_s=option.prompt if option else None,
        quality=option.quality if option else None,
        fits=verdict.fits,
        reason=verdict.reason,
        near_misses=verdict.near_misses,
        pss_bytes=option.needs[RAM].resident_bytes if option is not None and option.offload == "none" else None,
    )


def _margin(option: Option | None) -> int | None:
    return sum(option.margins.values()) if option is not None and option.estimated else None


def _need(device: str, need: MemoryNeed) -> DeviceNeed:
    mapped = need.weights_bytes - need.copied_bytes if device == RAM else 0
    return DeviceNeed(
        need.weights_bytes,
        need.kv_bytes,
        need.compute_bytes,
        need.overhead_bytes,
        mapped,
        need.copied_bytes,
        need.idle_bytes,
    )


def budget_json(budget: Budget) -> dict[str, Any]:
    """A budget as a plan shows it: plain JSON values."""
    return asdict(_parts(budget))


def _parts(budget: Budget) -> BudgetParts:
    return BudgetParts(
        total_bytes=budget.total_bytes,
        available_bytes=budget.available_bytes,
        reserve_bytes=budget.reserve_bytes,
        promised_bytes=budget.promised_bytes,
        held_bytes=budget.held_bytes,
        use_fraction=budget.use_fraction,
        limit_bytes=budget.limit_bytes,
        budget_bytes=budget.budget_bytes,
        because=budget.because,
    )


def idle_text(site: Site) -> str:
    """The idle engines with what they hold: ```qwen3:8b` (5.1 GiB of CUDA0)``."""
    return ", ".join(f"`{name}` ({_held(sizes)})" for name, sizes in sorted(site.idle.items()))


def _held(sizes: Mapping[str, int]) -> str:
    return " and ".join(f"{format_bytes(size)} of {device}" for device, size in sizes.items())


def _notes(site: Site, choice: Choice, refused: str | None) -> list[str]:
    options = [one.option for one in choice.verdicts if one.option is not None]
    copied = any(need.copied_bytes for option in options for need in option.needs.values())
    notes = [_MAPPED + _COPIED if copied else _MAPPED]
    if not site.real:
        notes.append(_DESCRIBED)
        notes += [_ABSENT] if site.devices else []
    if site.hardware.accelerators_problem is not None:
        notes.append(f"{site.hardware.accelerators_problem}; the plan is for what is known of them")
    if site.hardware.unified and site.devices:
        notes.append(_UNIFIED)
    if site.idle:
        notes.append(f"idle engines count as gone, they make room when a model is loaded: {idle_text(site)}")
    if refused is not None and options:
        notes.append(
            f"llama.cpp would not plan this model ({refused}): caches and scratch come from a formula,"
            f" within {ESTIMATE_MARGIN:.0%} where it was compared"
        )
    if site.devices and any(option.estimated for option in options):
        notes.append(_ESTIMATED)
    if site.real and not site.cpu.measured_types and options:
        notes.append(_ASSUMED)
    return notes
