"""Take the best variant that fits, and say of every other one why not."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from lilliput.fit.budget import Budget
from lilliput.fit.need import MemoryNeed
from lilliput.fit.quality import is_full_precision, quality_rank
from lilliput.units import format_bytes


@dataclass(frozen=True, slots=True)
class Candidate:
    """A variant that might be taken. ``smaller`` holds what it would need at smaller contexts: (tokens, need) pairs.

    ``problem`` says why the variant cannot be loaded at all, None if it can. ``name`` is unique among the candidates.
    """

    name: str
    quantization: str | None
    file_bytes: int
    need: MemoryNeed
    smaller: tuple[tuple[int, MemoryNeed], ...] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one candidate: whether it fits the budget, and why it was taken or not."""

    candidate: Candidate
    fits: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Choice:
    """All verdicts, best quality first, and the one that was taken (None: nothing fits)."""

    verdicts: tuple[Verdict, ...]
    chosen: Verdict | None

    def smallest(self, names: Collection[str] | None = None) -> Candidate | None:
        """The loadable candidate (of ``names``) that needs least, None when there is none."""
        candidates = [verdict.candidate for verdict in self.verdicts if verdict.candidate.problem is None]
        loadable = [one for one in candidates if names is None or one.name in names]
        return min(loadable, key=lambda one: (one.need.total_bytes, one.name), default=None)


def choose(
    candidates: Iterable[Candidate], budget: Budget, *, context_tokens: int, pinned: Collection[str] | None = None
) -> Choice:
    """The candidate of best quality that fits ``budget``; with ``pinned`` the best of those names, or nothing.

    Deterministic: the order of the candidates does not matter. Full precision is taken only where nothing quantized can
    be had, and nothing above Q8_0 where there is a Q8_0: more bytes no longer show in the answers.
    """
    ordered = sorted(candidates, key=lambda one: (-quality_rank(one.quantization, one.file_bytes), one.name))
    useful = _useful(ordered) if pinned is None else set(pinned)
    chosen = next((one for one in ordered if one.name in useful and _fits(one, budget)), None)
    verdicts = tuple(
        Verdict(one, _fits(one, budget), _reason(one, chosen, budget, context_tokens, pinned)) for one in ordered
    )
    return Choice(verdicts, next((one for one in verdicts if one.candidate is chosen), None))


def _useful(ordered: list[Candidate]) -> set[str]:
    """Names of the candidates that may be taken without being asked for."""
    loadable = [one for one in ordered if one.problem is None]
    quantized = [one for one in loadable if not is_full_precision(one.quantization)]
    ceiling = max((_rank(one) for one in quantized if one.quantization == "Q8_0"), default=None)
    return {one.name for one in quantized or loadable if ceiling is None or _rank(one) <= ceiling}


def _rank(candidate: Candidate) -> float:
    return quality_rank(candidate.quantization, candidate.file_bytes)


def _fits(candidate: Candidate, budget: Budget) -> bool:
    return candidate.problem is None and candidate.need.total_bytes <= budget.budget_bytes


def _reason(
    candidate: Candidate, chosen: Candidate | None, budget: Budget, context_tokens: int, pinned: Collection[str] | None
) -> str:
    if candidate.problem is not None:
        return candidate.problem
    spare_bytes = budget.budget_bytes - candidate.need.total_bytes
    if spare_bytes < 0:
        over = f"{describe_need(candidate.need, context_tokens)}, {format_bytes(-spare_bytes)} over the budget"
        return f"{over} of {format_bytes(budget.budget_bytes)}{_near_miss(candidate, budget)}"
    if candidate is chosen:
        why = "asked for, and it fits" if pinned is not None else "the best quality that fits"
        return f"{why}: {describe_need(candidate.need, context_tokens)}, {format_bytes(spare_bytes)} under the budget"
    return f"fits, but {_passed_over(candidate, chosen, pinned)}"


def _passed_over(candidate: Candidate, chosen: Candidate | None, pinned: Collection[str] | None) -> str:
    if pinned is not None and candidate.name not in pinned:
        return f"{' or '.join(sorted(pinned))} was asked for"
    if chosen is None or _rank(candidate) > _rank(chosen):
        return "its bytes beyond Q8_0 do not show in the answers: name it to have it"
    if is_full_precision(candidate.quantization):
        return "full precision is taken only when it is asked for"
    return f"{chosen.name} keeps more quality"


def describe_need(need: MemoryNeed, context_tokens: int) -> str:
    """``needs 45.2 GiB + 2.5 GiB KV at 8192 + 0.4 GiB for computing``."""
    rest = format_bytes(need.compute_bytes + need.overhead_bytes)
    return (
        f"needs {format_bytes(need.weights_bytes)} + {format_bytes(need.kv_bytes)} KV at {context_tokens}"
        f" + {rest} for computing"
    )


def _near_miss(candidate: Candidate, budget: Budget) -> str:
    fitting = [tokens for tokens, need in candidate.smaller if need.total_bytes <= budget.budget_bytes]
    return f"; fits at {max(fitting)}" if fitting else ""
