"""What makes one setting of one variant better than another: the wish, the losses and the rank."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from lilliput.fit.options import RAM, Candidate, Option, Setting
from lilliput.fit.quality import QualityTable
from lilliput.fit.use_cases import UseCase, meets_floor
from lilliput.units import counted

LOSS_STEP = 0.002
"""KLDs are compared in steps of this: less does not show in answers, so speed decides between Q8_0 and F16."""

Trade = Literal["quality", "balance", "speed"]


@dataclass(frozen=True, slots=True)
class Wish:
    """What is wanted, and which parts of it are pinned, that is never changed.

    ``kv_type`` and ``gpu_layers`` are pinned when given. ``names`` are the variants asked for (None: any): no floor
    applies to a variant that was named. ``beside_bytes`` are files that are loaded with whatever variant is taken.
    """

    use_case: UseCase
    context_tokens: int
    slots: int
    context_pinned: bool = False
    slots_pinned: bool = False
    kv_type: str | None = None
    gpu_layers: int | None = None
    names: frozenset[str] | None = None
    beside_bytes: int = 0

    @property
    def trade(self) -> Trade:
        """How the use case's order of preferences trades quality against speed.

        ``quality``: speed comes last, so the target never costs quality. ``balance``: quality before speed, and speed
        not last: below the target nothing better than the use case's ``start`` is bought with speed. ``speed``: speed
        before quality: below the target the fastest. Context has no part in it: it is kept as long as anything at
        or above the floor fits.
        """
        order = self.use_case.prefers
        if order.index("speed") < order.index("quality"):
            return "speed"
        return "quality" if order[-1] == "speed" else "balance"

    def allows(self, setting: Setting) -> bool:
        """Whether a setting leaves everything pinned as it is."""
        return (
            (not self.context_pinned or setting.context_tokens == self.context_tokens)
            and (not self.slots_pinned or setting.slots == self.slots)
            and (self.kv_type is None or setting.kv_type.lower() == self.kv_type.lower())
            and (self.gpu_layers is None or setting.gpu_layers == self.gpu_layers)
        )


class Rank(NamedTuple):
    """An option's worth, compared field by field, more is better. It does not depend on any budget.

    ``slots`` and ``context_tokens`` count up to what was wished. ``full_offload`` is True where there are no
    accelerators. The three qualities are losses in steps, negative; which of them count depends on the trade and on
    whether the target is reached. ``speed`` is in tokens/s, the target where it is not known.
    """

    slots: int
    context_tokens: int
    full_offload: bool
    quality_first: int
    reaches_target: bool
    quality: int
    plain_kv: bool
    speed: float
    quality_last: int
    less_ram_bytes: int
    less_bytes: int


@dataclass(frozen=True, slots=True)
class Rated:
    """An option with its losses (KLD; ``kv_loss`` is the part of the KV cache) and its rank.

    ``above_floor`` is judged for variant and KV cache together. ``claims`` are the bytes taken from the budget of each
    device, ``over`` how many of them it has not.
    """

    candidate: Candidate
    option: Option
    loss: float
    kv_loss: float
    above_floor: bool
    rank: Rank
    claims: Mapping[str, int]
    over: Mapping[str, int]

    @property
    def worth(self) -> tuple[bool, Rank]:
        """What is compared, more is better: whether the KV cache takes nothing below the floor, then the rank."""
        return self.above_floor or self.kv_loss < LOSS_STEP, self.rank


@dataclass(frozen=True, slots=True)
class Losses:
    """What variants lose, comparable among them: KLDs by type, measured ones only where ``measured`` says all are."""

    table: QualityTable
    architecture: str | None
    use_case: UseCase
    measured: bool = False

    @property
    def floor(self) -> float:
        """The loss of the use case's floor."""
        return self.table.loss(self.use_case.floor)

    def variant(self, candidate: Candidate) -> float:
        """The loss of the variant's type; by its bits per weight where none is known."""
        return self.table.loss(candidate.quantization, _bits(candidate), architecture=self.architecture)

    def kv(self, kv_type: str) -> float:
        """The loss that this KV cache adds."""
        return self.table.of_kv(kv_type, self.architecture).kld or 0.0

    def meets_floor(self, candidate: Candidate, kv_loss: float = 0.0) -> bool:
        """Whether type and KV cache together lose no more than the floor, or less than a step more.

        Measured losses are not taken here: the floor is a type, and its loss is a prior.
        """
        bits = _bits(candidate)
        plain = meets_floor(
            self.table,
            candidate.quantization,
            self.use_case,
            file_bits_per_weight=bits,
            architecture=self.architecture,
        )
        return plain and (kv_loss == 0 or self.variant(candidate) + kv_loss < self.floor + LOSS_STEP)


def losses_of(
    candidates: Iterable[Candidate], table: QualityTable, architecture: str | None, use_case: UseCase
) -> Losses:
    """The losses to compare these candidates by: measured ones when every loadable one has been measured."""
    real = [one for one in candidates if one.problem is None and one.exists and one.options]
    measured = bool(real) and all(
        any(option.quality.measured for option in one.options)
        and all(option.quality.kld is not None for option in one.options)
        for one in real
    )
    return Losses(table, architecture, use_case, measured)


def rank(option: Option, loss: float, wish: Wish, *, start_loss: float, accelerated: bool) -> Rank:
    """The rank of an option that loses ``loss``; ``start_loss`` is that of the use case's start."""
    setting, trade, target = option.setting, wish.trade, wish.use_case.target_tokens_per_s
    speed = target if option.generation is None else option.generation.mid
    reaches = speed >= target
    quality, start = -step(loss), -step(start_loss)
    counted = quality if reaches else {"quality": quality, "balance": min(quality, start), "speed": 0}[trade]
    return Rank(
        slots=min(setting.slots, wish.slots),
        context_tokens=min(setting.context_tokens, wish.context_tokens),
        full_offload=option.offload == "full" or not accelerated,
        quality_first=quality if trade == "quality" else 0,
        reaches_target=reaches,
        quality=counted,
        plain_kv=setting.plain_kv,
        speed=speed,
        quality_last=quality,
        less_ram_bytes=-option.needs[RAM].total_bytes if RAM in option.needs else 0,
        less_bytes=-option.total_bytes,
    )


def step(loss: float) -> int:
    """The step of a loss: variants of one step answer alike."""
    return int(loss / LOSS_STEP)


def state_objective(wish: Wish, *, accelerated: bool, measured: bool) -> str:
    """The order of the objective in one sentence."""
    case, target = wish.use_case, f"{wish.use_case.target_tokens_per_s:g} tokens/s"
    qualities = {
        "quality": "then the best quality, then speed",
        "balance": f"then the best quality at {target} or more, then, below that, {case.start} or better and speed",
        "speed": f"then the best quality at {target} or more, then, below that, speed",
    }[wish.trade]
    parts = [
        f"{case.name}: " + (f"never below {case.floor}" if wish.names is None else "one of the variants asked for"),
        counted(wish.slots, "slot") + (" (pinned)" if wish.slots_pinned else ""),
        f"{wish.context_tokens} tokens of context"
        + (" (pinned)" if wish.context_pinned else ", less only where nothing else fits"),
        *(["then everything on the accelerators"] if accelerated else []),
        qualities,
    ]
    differing = f"KLDs less than {LOSS_STEP} apart, {'measured' if measured else 'by type'}, count as equal"
    return f"{'; '.join(parts)}; {differing}"


def _bits(candidate: Candidate) -> float | None:
    known = [one.quality.bits_per_weight for one in candidate.options if one.quality.bits_per_weight]
    return min(known, default=None)
