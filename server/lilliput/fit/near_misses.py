"""What would make a variant fit that does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from lilliput.fit.budget import Budget
from lilliput.fit.objective import Rated
from lilliput.fit.options import Setting
from lilliput.fit.reasons import Scene, accelerators, placement
from lilliput.units import counted, format_bytes


def near_misses(
    miss: Rated, rated: Sequence[Rated], scene: Scene, busy: Mapping[str, Mapping[str, int]]
) -> tuple[str, ...]:
    """Ways to make ``miss`` fit, the smallest change first; ``rated`` are all options of its variant.

    Each names one change (context, KV type, slots, a pinned placement, models to unload). Where no single change is
    enough, one way combines several. ``busy`` are engines at work and the bytes by device that their ends would free.
    """
    fitting = [one for one in rated if not one.over]
    ways = [_say(way, miss, scene) for way in _single_changes(miss, fitting, scene)]
    ways += _unloading(miss, scene, busy)
    if not ways and fitting:
        ways.append(_say(max(fitting, key=lambda one: one.rank), miss, scene))
    return tuple(ways)


def whole_at(fit: Rated, rated: Sequence[Rated]) -> tuple[str, ...]:
    """For a variant that fits with a part on the CPU: what would put it wholly on the accelerators."""
    whole = [
        one
        for one in rated
        if not one.over
        and one.option.offload == "full"
        and one.option.setting.kv_type == fit.option.setting.kv_type
        and one.option.setting.slots == fit.option.setting.slots
        and one.option.setting.context_tokens < fit.option.setting.context_tokens
    ]
    if fit.option.offload == "full" or not whole:
        return ()
    best = max(whole, key=lambda one: one.rank)
    return (f"fits wholly on {accelerators(best)} at {best.option.setting.context_tokens}",)


def _single_changes(miss: Rated, fitting: Iterable[Rated], scene: Scene) -> list[Rated]:
    """The best option for each single change. Where the placement is not pinned, it may follow any change."""
    best: dict[str, Rated] = {}
    for one in fitting:
        changed = _changes(miss.option.setting, one.option.setting)
        if scene.wish.gpu_layers is None:
            changed.discard("placement")
        if len(changed) == 1:
            kind = changed.pop()
            if kind not in best or one.rank > best[kind].rank:
                best[kind] = one
    return [best[kind] for kind in ("context", "kv", "placement", "slots") if kind in best]


def _changes(base: Setting, other: Setting) -> set[str]:
    pairs = {
        "context": (base.context_tokens, other.context_tokens),
        "kv": (base.kv_type, other.kv_type),
        "placement": ((base.gpu_layers, base.cpu_expert_layers), (other.gpu_layers, other.cpu_expert_layers)),
        "slots": (base.slots, other.slots),
    }
    return {name for name, (mine, theirs) in pairs.items() if mine != theirs}


def _say(way: Rated, miss: Rated, scene: Scene) -> str:
    """``fits at 4096 with q8_0 KV: KLD +0.001``."""
    base, setting = miss.option.setting, way.option.setting
    changed = _changes(base, setting)
    parts = ["fits"]
    if "context" in changed:
        parts.append(f"at {setting.context_tokens}")
    ways = [f"{setting.kv_type} KV"] if "kv" in changed else []
    ways += [counted(setting.slots, "slot")] if "slots" in changed else []
    ways += [placement(way)] if "placement" in changed and scene.wish.gpu_layers is not None else []
    if ways:
        parts.append(f"with {' and '.join(ways)}")
    text = " ".join(parts)
    if "kv" in changed:
        text += f": KLD {way.kv_loss - miss.kv_loss:+.3f}"
    if miss.above_floor and not way.above_floor and scene.wish.names is None:
        text += f", which is below the floor of {scene.wish.use_case.floor}"
    return text


def _unloading(miss: Rated, scene: Scene, busy: Mapping[str, Mapping[str, int]]) -> list[str]:
    """The single model whose unloading frees enough memory (the least that does), else the fewest that do together."""
    budgets = {name: scene.budgets[name] for name in miss.over if name in scene.budgets}
    if not miss.over or len(budgets) < len(miss.over):
        return []

    def freed(names: Iterable[str]) -> dict[str, int]:
        return {device: sum(busy[name].get(device, 0) for name in names) for device in budgets}

    def enough(names: Iterable[str]) -> bool:
        size = freed(names)
        return all(
            _without(budget, size[device]).budget_bytes >= miss.claims[device] for device, budget in budgets.items()
        )

    by_size = sorted(busy, key=lambda name: (sum(freed([name]).values()), name))
    alone = next((name for name in by_size if enough([name])), None)
    if alone is not None:
        return [f"fits if `{alone}` is unloaded, which is busy"]
    names: list[str] = []
    for name in reversed(by_size):
        names.append(name)
        if enough(names):
            quoted, size = " and ".join(f"`{one}`" for one in names), format_bytes(sum(freed(names).values()))
            return [f"fits if {quoted} are unloaded, which are busy, {size} in all"]
    return []


def _without(budget: Budget, freed: int) -> Budget:
    """The budget when engines that hold so much of it have ended."""
    available = min(budget.total_bytes + budget.promised_bytes, budget.available_bytes + freed)
    return replace(budget, available_bytes=available, held_bytes=max(0, budget.held_bytes - freed))
