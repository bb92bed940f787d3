"""Choose variant, context, KV type, slots and placement together, and say of every variant why or why not."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lilliput.fit.budget import Budget
from lilliput.fit.near_misses import near_misses, whole_at
from lilliput.fit.objective import Losses, Rated, Wish, losses_of, rank, state_objective
from lilliput.fit.options import Candidate, Option
from lilliput.fit.quality import QualityTable
from lilliput.fit.reasons import Scene, below_floor, describe_option, why_chosen, why_over, why_passed_over
from lilliput.units import counted


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one candidate. ``option`` is what would be used: the best that fits, else the nearest miss.

    ``fits`` is judged at the slots and context that were settled on: those wished, unless nothing could be taken there.
    ``near_misses`` say what would make it fit.
    """

    candidate: Candidate
    option: Option | None
    fits: bool
    reason: str
    near_misses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """All verdicts, best quality first, and the one that was taken; None: nothing at or above the floor fits.

    ``objective`` states the order of the objective, ``summary`` why this was taken, or why nothing was and what would
    fit below the floor: a sentence each.
    """

    verdicts: tuple[Verdict, ...]
    chosen: Verdict | None
    objective: str
    summary: str

    def smallest(self, names: Collection[str] | None = None) -> Verdict | None:
        """The verdict on the loadable candidate (of ``names``) that needs least, None when there is none."""
        found = [
            (one.option.total_bytes, one.candidate.name, one)
            for one in self.verdicts
            if one.option is not None and one.candidate.problem is None and one.candidate.exists
        ]
        wanted = [(size, name, one) for size, name, one in found if names is None or name in names]
        return min(wanted, key=lambda item: item[:2])[2] if wanted else None


def choose(
    candidates: Iterable[Candidate],
    budgets: Mapping[str, Budget],
    wish: Wish,
    *,
    table: QualityTable,
    architecture: str | None = None,
    unified: Collection[str] = (),
    busy: Mapping[str, Mapping[str, int]] | None = None,
) -> Choice:
    """The best option of the best variant that fits all ``budgets``, or nothing.

    Taken may be what exists, has no problem, leaves the pinned as it is, fits every device and is, together with its KV
    cache, at or above the use case's floor (or was named). Of that the best by ``Rank``: slots up to those wished,
    context up to that wished, full offload where there are accelerators, then quality and speed as the use case
    trades them (``Wish.trade``), a floating-point KV cache first, then fewer bytes. So fewer slots are the last resort,
    and a smaller context the last but one. A named variant's KV cache is what takes it below the floor
    only where nothing else that was named fits, before any rank (``Rated.worth``). Worth does not depend on budgets:
    more memory never gives less of it.
    The order of the candidates does not matter. ``table`` compares variants, with the priors of ``architecture`` as
    its header names it; ``unified`` are accelerators whose memory is the system's: what they hold counts in both
    budgets; ``busy`` maps engines at work to the bytes by device that they would free.
    """
    ordered = sorted(candidates, key=lambda one: one.name)
    losses = losses_of(ordered, table, architecture, wish.use_case)
    scene = Scene(wish, losses, budgets, frozenset(unified))
    rated = {one.name: _rate(one, scene, _start_loss(ordered, losses)) for one in ordered}
    allowed = [one for some in rated.values() for one in some if _may_be_taken(one, scene)]
    best = max(allowed, key=lambda one: one.worth, default=None)
    lossy = best is not None and any(one.rank[:2] > best.rank[:2] for one in allowed)
    judge = _Judge(scene, best, busy or {}, lossy)
    ordered.sort(key=lambda one: (losses.variant(one), -one.file_bytes, one.name))
    verdicts = tuple(judge.verdict(one, rated[one.name]) for one in ordered)
    chosen = next((one for one in verdicts if best is not None and one.candidate is best.candidate), None)
    summary = _refusal(scene, rated, verdicts) if chosen is None else f"{chosen.candidate.name}: {chosen.reason}"
    objective = state_objective(wish, accelerated=scene.accelerated, measured=losses.measured)
    return Choice(verdicts, chosen, objective, summary)


def _start_loss(candidates: Iterable[Candidate], losses: Losses) -> float:
    """The loss of the use case's start, in the same terms as the candidates'."""
    start = losses.use_case.start
    measured = (
        option.quality.kld
        for one in candidates
        for option in one.options
        if losses.measured and one.quantization == start and option.quality.kld is not None
    )
    return min(measured, default=losses.table.loss(start))


def _rate(candidate: Candidate, scene: Scene, start_loss: float) -> tuple[Rated, ...]:
    """All options of a candidate, rated, in an order of their own."""
    losses = scene.losses
    base = losses.variant(candidate) if candidate.options else 0.0
    kv_losses = {kind: losses.kv(kind) for kind in {one.setting.kv_type for one in candidate.options}}
    floors = {kind: losses.meets_floor(candidate, loss) for kind, loss in kv_losses.items()}
    found = []
    for option in candidate.options:
        kind = option.setting.kv_type
        known = option.quality.kld if losses.measured else None
        loss = base + kv_losses[kind] if known is None else known
        place = rank(option, loss, scene.wish, start_loss=start_loss, accelerated=scene.accelerated)
        claims = option.claims(scene.unified)
        over = {name: size - scene.budget_bytes(name) for name, size in claims.items()}
        over = {name: size for name, size in over.items() if size > 0}
        found.append(Rated(candidate, option, loss, kv_losses[kind], floors[kind], place, claims, over))
    return tuple(sorted(found, key=_own_order))


def _own_order(rated: Rated) -> tuple[bool, str, int, int, int, int]:
    setting = rated.option.setting
    return (
        setting.kv_type.lower() != "f16",
        setting.kv_type,
        -setting.gpu_layers,
        setting.cpu_expert_layers,
        -setting.slots,
        -setting.context_tokens,
    )


def _may_be_taken(rated: Rated, scene: Scene) -> bool:
    candidate = rated.candidate
    return (
        candidate.problem is None
        and candidate.exists
        and not rated.over
        and scene.wish.allows(rated.option.setting)
        and scene.is_named(rated)
        and (rated.above_floor or scene.wish.names is not None)
    )


@dataclass(frozen=True, slots=True)
class _Judge:
    """Tells what became of each candidate, given the best option of all.

    ``lossy``: with more slots or context only what a KV cache takes below the floor fits.
    """

    scene: Scene
    best: Rated | None
    busy: Mapping[str, Mapping[str, int]]
    lossy: bool

    @property
    def level(self) -> tuple[int, int]:
        """Slots and context that were settled on."""
        wish = self.scene.wish
        return (wish.slots, wish.context_tokens) if self.best is None else self.best.rank[:2]

    def verdict(self, candidate: Candidate, rated: Sequence[Rated]) -> Verdict:
        """The verdict on one candidate."""
        if self.best is not None and candidate is self.best.candidate:
            reason = why_chosen(self.best, self.scene, self._given_up_for())
            return Verdict(candidate, self.best.option, True, reason, whole_at(self.best, rated))
        allowed = [one for one in rated if self.scene.wish.allows(one.option.setting)]
        if candidate.problem is not None or not allowed:
            option = max(allowed, key=lambda one: one.rank).option if allowed else None
            return Verdict(candidate, option, False, candidate.problem or self._unplanned(rated))
        reachable = any(one.above_floor for one in allowed)
        fitting = [one for one in allowed if self._fits(one) and (one.above_floor or self._named or not reachable)]
        if fitting:
            fit = max(fitting, key=lambda one: (one.above_floor, one.rank))
            reason = why_passed_over(fit, self.best, self.scene)
            return Verdict(candidate, fit.option, True, reason, whole_at(fit, rated))
        miss = self._nearest(allowed)
        ways = near_misses(miss, rated, self.scene, self.busy)
        reason = why_over(miss, self.scene)
        if not candidate.exists:
            reason += "; a quantization would have to make it first"
        return Verdict(candidate, miss.option, False, reason, ways)

    def _fits(self, rated: Rated) -> bool:
        """Whether an option fits at the level settled on."""
        return not rated.over and rated.rank[:2] >= self.level

    @property
    def _named(self) -> bool:
        return self.scene.wish.names is not None

    def _nearest(self, allowed: Sequence[Rated]) -> Rated:
        """Of the options at the level settled on, or as near to it as there are, the one least over."""
        over = [one for one in allowed if one.over] or list(allowed)
        level = min(self.level, max(one.rank[:2] for one in over))
        near = [one for one in over if one.rank[:2] >= level]
        plain = [one for one in near if one.option.setting.plain_kv] or near
        return min(plain, key=lambda one: (sum(one.over.values()), max(one.over.values(), default=0)))

    def _unplanned(self, rated: Sequence[Rated]) -> str:
        wish = self.scene.wish
        pins = [f"a context of {wish.context_tokens}"] if wish.context_pinned else []
        pins += [counted(wish.slots, "slot")] if wish.slots_pinned else []
        pins += [f"{wish.kv_type} KV"] if wish.kv_type is not None else []
        pins += [f"{wish.gpu_layers} layers on accelerators"] if wish.gpu_layers is not None else []
        return f"cannot be set up with {' and '.join(pins)}" if rated else "what it needs is not known"

    def _given_up_for(self) -> str:
        wish = self.scene.wish
        level = f"{wish.context_tokens} with {counted(wish.slots, 'slot')}"
        if wish.names is not None:
            floor = f" without a KV cache that takes it below {wish.use_case.floor}" if self.lossy else ""
            return f"{self.scene.asked} does not fit at {level}{floor}"
        return f"nothing at or above {wish.use_case.floor} fits at {level}"


def _refusal(scene: Scene, rated: Mapping[str, Sequence[Rated]], verdicts: Sequence[Verdict]) -> str:
    """Why nothing was taken: the floor or the names asked for, what is nearest, and what would fit below."""
    real = [one for one in verdicts if one.candidate.problem is None and one.candidate.exists]
    if not real:
        return "there is nothing that can be loaded"
    case, names = scene.wish.use_case, scene.wish.names
    if names is None:
        text = f"nothing at or above {case.floor} fits, the floor of {case.name}"
        owed = [one for one in real if scene.losses.meets_floor(one.candidate)]
    else:
        owed = [one for one in real if one.candidate.name in names]
        text = f"{scene.asked} does not fit" if owed else f"{scene.asked} is not among what can be loaded"
    nearest = Choice(tuple(one for one in owed if not one.fits), None, "", "").smallest()
    if nearest is not None:
        text += f"; the smallest of them, {nearest.candidate.name}, {nearest.reason}"
    others = [_best_below(rated[one.candidate.name], scene) for one in real]
    below = [one for one in others if one is not None]
    if not below:
        text += "; nor does anything else"
    else:
        best = min(below, key=lambda one: (-one.rank.slots, -one.rank.context_tokens, one.loss))
        text += f"; {best.candidate.name} would fit{_kv(best)}: it {describe_option(best.option)}"
        text += f", but {below_floor(best, scene)}" if names is None else ", but was not asked for"
    return text


def _best_below(rated: Sequence[Rated], scene: Scene) -> Rated | None:
    fitting = [one for one in rated if not one.over and scene.wish.allows(one.option.setting)]
    return max(fitting, key=lambda one: one.rank, default=None)


def _kv(rated: Rated) -> str:
    return "" if rated.option.setting.plain_kv else f" with {rated.option.setting.kv_type} KV"
