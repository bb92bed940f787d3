"""The commands that follow from a plan."""

from __future__ import annotations

import re
import shlex

from lilliput_client import LoadWanted, Plan, Variant

_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:[/\\]")
_USUAL = "general"
_SEPARATORS = re.compile(r"[-_.]")


def is_here(variant: Variant) -> bool:
    """Whether the variant's files lie on the daemon's machine already: only these have absolute paths."""
    return bool(variant.files) and _ABSOLUTE.match(variant.files[0]) is not None


def flags(wanted: LoadWanted) -> str:
    """What is wanted as options of ``lilliput pull`` and ``lilliput run``, with a space before; empty for nothing."""
    valued = {
        "--use-case": wanted.get("use_case"),
        "--context": wanted.get("context"),
        "--slots": wanted.get("slots"),
        "--kv": wanted.get("kv"),
        "--gpu-layers": wanted.get("gpu_layers"),
        "--rope-scaling": wanted.get("rope_scaling"),
        "--rope-freq-base": wanted.get("rope_freq_base"),
        "--rope-freq-scale": wanted.get("rope_freq_scale"),
        "--yarn-orig-ctx": wanted.get("yarn_orig_ctx"),
        "--draft": wanted.get("draft"),
    }
    given = [f" {name} {shlex.quote(str(value))}" for name, value in valued.items() if value is not None]
    return "".join(given) + (" --force" if wanted.get("force") else "")


def pull(model: str, wanted: LoadWanted, variant: str | None = None) -> str:
    """The command that pulls a model, in this variant if one is given."""
    named = "" if variant is None else f" --variant {shlex.quote(variant)}"
    return f"lilliput pull {shlex.quote(model)}{named}{flags(wanted)}"


def take(plan: Plan, variant: Variant, wanted: LoadWanted | None = None) -> str:
    """The command that has a variant as it was wanted: to run it where it is installed, else to pull it."""
    asked = LoadWanted() if wanted is None else wanted
    if is_here(variant):
        return f"lilliput run {shlex.quote(plan.model)}{flags(asked)}"
    if plan.use_case and plan.use_case != _USUAL:
        asked = {**asked, "use_case": plan.use_case}
    return pull(plan.model, asked, None if _fold(variant.name) in _fold(plan.model) else _asked_for(variant))


def force(plan: Plan, variant: Variant, wanted: LoadWanted | None = None) -> str:
    """The command that has what does not fit: ``variant`` where it is installed, else what there is for the model."""
    given = LoadWanted() if wanted is None else wanted
    asked: LoadWanted = {**given, "force": True}
    if is_here(variant):
        return take(plan, variant, asked)
    if plan.use_case and plan.use_case != _USUAL:
        asked["use_case"] = plan.use_case
    return pull(plan.model, asked)


def after(plan: Plan, wanted: LoadWanted | None = None) -> str | None:
    """What to type after a plan, None if nothing fits; of a described machine it is said where."""
    variant = plan.taken
    if variant is None:
        return None
    command = take(plan, variant, wanted)
    return f"{command}   (on {plan.machine.described})" if plan.machine.described else command


def _asked_for(variant: Variant) -> str:
    """What a pull takes for it: the quantization, or a file where the variant is named by its files."""
    path = variant.name.partition(":")[0]
    return variant.files[0] if variant.files and variant.files[0].startswith(path) else variant.name


def _fold(text: str) -> str:
    return _SEPARATORS.sub("", text).casefold()
