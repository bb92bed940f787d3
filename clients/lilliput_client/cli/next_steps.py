"""The commands that follow from a plan."""

from __future__ import annotations

import re
import shlex

from lilliput_client import Plan, Variant

_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:[/\\]")
_USUAL = "general"
_SEPARATORS = re.compile(r"[-_.]")


def is_here(variant: Variant) -> bool:
    """Whether the variant's files lie on the daemon's machine already: only these have absolute paths."""
    return bool(variant.files) and _ABSOLUTE.match(variant.files[0]) is not None


def take(plan: Plan, variant: Variant, context: int | None = None) -> str:
    """The command that has a variant: to run it where it is installed, else to pull it."""
    model = shlex.quote(plan.model)
    if is_here(variant):
        return f"lilliput run {model}"
    command = f"lilliput pull {model}"
    if _fold(variant.name) not in _fold(plan.model):
        command += f" --variant {shlex.quote(_asked_for(variant))}"
    if plan.use_case and plan.use_case != _USUAL:
        command += f" --use-case {shlex.quote(plan.use_case)}"
    return command if context is None else f"{command} --context {context}"


def after(plan: Plan, context: int | None = None) -> str | None:
    """What to type after a plan, None if nothing fits; of a described machine it is said where."""
    variant = plan.taken
    if variant is None:
        return None
    command = take(plan, variant, context)
    return f"{command}   (on {plan.machine.described})" if plan.machine.described else command


def _asked_for(variant: Variant) -> str:
    """What a pull takes for it: the quantization, or a file where the variant is named by its files."""
    path = variant.name.partition(":")[0]
    return variant.files[0] if variant.files and variant.files[0].startswith(path) else variant.name


def _fold(text: str) -> str:
    return _SEPARATORS.sub("", text).casefold()
