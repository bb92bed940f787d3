"""Why a variant is taken or not, in words and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lilliput.fit.budget import Budget
from lilliput.fit.objective import Losses, Rated, Wish
from lilliput.fit.options import RAM, Option
from lilliput.fit.speed import Speed
from lilliput.units import counted, format_bytes


@dataclass(frozen=True, slots=True)
class Scene:
    """What all reasons of one choice refer to."""

    wish: Wish
    losses: Losses
    budgets: Mapping[str, Budget]
    unified: frozenset[str] = frozenset()

    def budget_bytes(self, device: str) -> int:
        """What may be used of a device; nothing of one that is not there."""
        return self.budgets[device].budget_bytes if device in self.budgets else 0

    @property
    def accelerated(self) -> bool:
        """Whether the machine has accelerators."""
        return any(name != RAM for name in self.budgets)

    @property
    def target(self) -> str:
        """The target speed in words."""
        return f"{self.wish.use_case.target_tokens_per_s:g} tokens/s"

    @property
    def asked(self) -> str:
        """The variants asked for, in words."""
        return " or ".join(sorted(self.wish.names or ()))

    def is_named(self, rated: Rated) -> bool:
        """Whether this variant may be taken as far as names go."""
        return self.wish.names is None or rated.candidate.name in self.wish.names


def why_over(rated: Rated, scene: Scene) -> str:
    """``needs 46.5 GiB + 2.5 GiB KV at 8192, 6.4 GiB over the budget of 43.0 GiB, …``; by device where several."""
    if not rated.over:
        setting = rated.option.setting
        return f"is planned only for {counted(setting.slots, 'slot')} and {setting.context_tokens} tokens of context"
    if len(rated.claims) == len(scene.budgets) == 1:
        ((name, over),) = rated.over.items()
        over_text = f", {format_bytes(over)} over the budget of {_budget(scene, name)}"
    else:
        parts = (f"{name}: {format_bytes(over)} over {_budget(scene, name)}" for name, over in rated.over.items())
        over_text = f"{_placed(rated)}; {', '.join(parts)}"
    return f"{describe_option(rated.option)}{over_text}, {_included(rated.option)} included"


def why_chosen(rated: Rated, scene: Scene, passed: str | None) -> str:
    """What speaks for the chosen option, what it needs and what was given up; ``passed`` names what did not fit."""
    parts = [f"{_merit(rated, scene)}: {describe_option(rated.option)}{_placed(rated)}", spare_text(rated, scene)]
    if rated.option.estimated:
        parts[-1] += f" with {_margin(rated.option)}"
    if rated.option.generation is not None:
        parts.append(f"{format_speed(rated.option.generation)} tokens/s")
    reason = ", ".join(parts)
    given_up = _given_up(rated, scene.wish)
    if given_up:
        reason += f"; {' and '.join(given_up)}" + (f": {passed}" if passed else "")
    return reason


def why_passed_over(rated: Rated, chosen: Rated | None, scene: Scene) -> str:
    """Why a variant that fits is not taken."""
    setting, why = rated.option.setting, "nothing was taken"
    packed = not setting.plain_kv and scene.wish.kv_type is None
    how = f"fits with {setting.kv_type} KV (KLD +{rated.kv_loss:.3f})" if packed else "fits"
    if not scene.is_named(rated):
        why = f"{scene.asked} was asked for"
    elif scene.wish.names is None and not rated.above_floor:
        why = below_floor(rated, scene)
    elif not rated.candidate.exists:
        why = f"a quantization would have to make it first: {describe_option(rated.option)}"
    elif chosen is not None:
        why = _difference(rated, chosen, scene)
    return f"{how}, but {why}"


def below_floor(rated: Rated, scene: Scene) -> str:
    """How far it is below the floor of the use case."""
    case, loss = scene.wish.use_case, scene.losses.variant(rated.candidate) + rated.kv_loss
    return f"is below {case.floor}, the floor of {case.name}: KLD {loss:.3f} against {scene.losses.floor:.3f}"


def describe_option(option: Option) -> str:
    """``needs 45.2 GiB + 2.5 GiB KV at 8192``, with the KV type where it is quantized."""
    weights = sum(need.weights_bytes for need in option.needs.values())
    kv = sum(need.kv_bytes for need in option.needs.values())
    kind = "" if option.setting.plain_kv else f"{option.setting.kv_type} "
    return f"needs {format_bytes(weights)} + {format_bytes(kv)} {kind}KV at {option.setting.context_tokens}"


def spare_text(rated: Rated, scene: Scene) -> str:
    """How much of the budgets an option that fits leaves."""
    spare = {name: scene.budget_bytes(name) - size for name, size in rated.claims.items()}
    if len(spare) == len(scene.budgets) == 1:
        ((name, left),) = spare.items()
        return f"{format_bytes(left)} under the budget of {_budget(scene, name)}"
    return ", ".join(f"{name}: {format_bytes(left)} under {_budget(scene, name)}" for name, left in spare.items())


def placement(rated: Rated) -> str:
    """Where the layers lie: ``20 of 81 layers on Vulkan0``."""
    option = rated.option
    if option.setting.gpu_layers == 0:
        return "all layers on the CPU"
    layers = layers_of(rated)
    count = "all" if option.setting.gpu_layers == layers else f"{option.setting.gpu_layers} of {layers}"
    experts = option.setting.cpu_expert_layers
    return f"{count} layers on {accelerators(rated)}" + (f", the experts of {experts} on the CPU" if experts else "")


def layers_of(rated: Rated) -> int:
    """All layers that can be put on accelerators, as far as the options tell."""
    return max(one.setting.gpu_layers for one in rated.candidate.options)


def format_speed(speed: Speed) -> str:
    """``2-3``: the interval in tokens/s, with a decimal below 10."""
    low, high = (f"{one:.1f}".removesuffix(".0") if one < 10 else f"{one:.0f}" for one in (speed.low, speed.high))
    return low if low == high else f"{low}-{high}"


def _difference(rated: Rated, chosen: Rated, scene: Scene) -> str:
    """The first field of the rank in which an option that fits is behind the chosen one."""
    pairs = zip(rated.rank._fields, rated.rank, chosen.rank, strict=True)
    behind = next((field for field, mine, best in pairs if mine < best), "")
    name, target = chosen.candidate.name, scene.wish.use_case.target_tokens_per_s
    less = f"keeps less quality than {name}: {_klds(rated, chosen)}"
    more = f"needs more memory than {name}, and the answers would not differ: {_klds(rated, chosen)}"
    texts = {
        "full_offload": f"only with {placement(rated)}, and {name} fits wholly on {accelerators(chosen)}",
        "quality_first": less,
        "reaches_target": f"is slower than the target: {_speed(rated)} tokens/s against {target:g}",
        "quality": less,
        "plain_kv": f"{name} does without a quantized cache",
        "speed": _slower(rated, chosen, scene),
        "quality_last": less,
        "less_ram_bytes": more,
        "less_bytes": more,
    }
    return texts.get(behind, f"{name} does as well and comes first by name")


def _slower(rated: Rated, chosen: Rated, scene: Scene) -> str:
    than = f"{_speed(rated)} tokens/s against {_speed(chosen)} of {chosen.candidate.name}"
    if rated.rank.reaches_target or scene.wish.trade == "quality":
        return f"is slower, and the answers would not differ: {than}, {_klds(rated, chosen)}"
    return f"is slower, and nothing reaches {scene.target}: {than}"


def _klds(rated: Rated, chosen: Rated) -> str:
    return f"KLD {rated.loss:.3f} against {chosen.loss:.3f}"


def _speed(rated: Rated) -> str:
    return "unknown" if rated.option.generation is None else format_speed(rated.option.generation)


def _merit(rated: Rated, scene: Scene) -> str:
    if scene.wish.names is not None:
        return "asked for, and it fits"
    if rated.option.generation is None:
        return "the best quality that fits, its speed is not known"
    if scene.wish.trade == "quality":
        return "the best quality that fits"
    if rated.rank.reaches_target:
        return f"the best quality that fits at {scene.target} or more"
    case = scene.wish.use_case
    least = case.start if scene.wish.trade == "balance" else case.floor
    return f"nothing that fits reaches {scene.target}, this is the fastest from {least} on"


def _given_up(rated: Rated, wish: Wish) -> list[str]:
    setting = rated.option.setting
    found = []
    if setting.slots < wish.slots:
        found.append(f"{counted(setting.slots, 'slot')} instead of {wish.slots}")
    if setting.context_tokens < wish.context_tokens:
        found.append(f"a context of {setting.context_tokens} instead of {wish.context_tokens}")
    return found


def _placed(rated: Rated) -> str:
    """The placement after a need, and what a quantized cache costs."""
    kv = "" if rated.option.setting.plain_kv else f" (KLD +{rated.kv_loss:.3f})"
    return kv + (f", {placement(rated)}" if rated.option.setting.gpu_layers else "")


def accelerators(rated: Rated) -> str:
    """The devices other than system memory that an option uses, in words."""
    return " and ".join(rated.option.accelerators) or "accelerators"


def _included(option: Option) -> str:
    """What the need has beside weights and caches."""
    computing = format_bytes(sum(need.compute_bytes + need.overhead_bytes for need in option.needs.values()))
    return f"{computing} for computing" + (f" and {_margin(option)}" if option.estimated else "")


def _margin(option: Option) -> str:
    return f"a margin of {format_bytes(sum(option.margins.values()))} for what is estimated"


def _budget(scene: Scene, device: str) -> str:
    return format_bytes(scene.budget_bytes(device)) if device in scene.budgets else "nothing"
