"""Contexts longer than a model was trained for: what is refused, and which rope settings a load gets. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

from lilliput.errors import InvalidRequest
from lilliput.gguf import Header
from lilliput.llama import Rope, RopeScaling

_STRETCHING = ("linear", "yarn")


def check_rope(rope: Rope) -> None:
    """InvalidRequest for settings that are impossible or contradict each other."""
    known = get_args(RopeScaling)
    if rope.scaling is not None and rope.scaling not in known:
        hint = f"one of {', '.join(known)}"
        raise InvalidRequest(f"{rope.scaling!r} is no way to scale rope", hint=hint, param="rope_scaling")
    if rope.freq_base is not None and not rope.freq_base > 0:
        raise InvalidRequest(f"rope_freq_base is {rope.freq_base:g}, but must be above 0", param="rope_freq_base")
    if rope.freq_scale is not None and not 0 < rope.freq_scale <= 1:
        raise InvalidRequest(
            f"rope_freq_scale is {rope.freq_scale:g}, but must be above 0 and at most 1",
            hint="0.25 stretches the context to four times its length",
            param="rope_freq_scale",
        )
    if rope.freq_scale is not None and rope.scaling not in _STRETCHING:
        raise InvalidRequest(
            "rope_freq_scale means nothing without rope_scaling", hint="add linear or yarn", param="rope_freq_scale"
        )
    if rope.original_tokens is not None and rope.original_tokens < 1:
        raise InvalidRequest(f"yarn_orig_ctx is {rope.original_tokens}, but must be at least 1", param="yarn_orig_ctx")
    if rope.original_tokens is not None and rope.scaling != "yarn":
        raise InvalidRequest(
            "yarn_orig_ctx means nothing without rope_scaling yarn", hint="add it", param="yarn_orig_ctx"
        )


def check_length(rope: Rope | None, context_tokens: int, trained_tokens: int | None) -> None:
    """InvalidRequest for a context beyond what the model was trained for, unless rope settings were asked for."""
    if rope is None and trained_tokens is not None and context_tokens > trained_tokens:
        raise InvalidRequest(
            f"context is {context_tokens}, but the model was trained with {trained_tokens} tokens",
            hint="rope_scaling yarn (--rope-scaling yarn) stretches it so far; none takes it as it is",
            param="context",
        )


def resolved(rope: Rope | None, context_tokens: int, header: Header) -> Rope | None:
    """The settings with how far they stretch, where that was left open: from the original context to this one.

    Raises InvalidRequest where the file does not say what it was trained with.
    """
    if rope is None or rope.scaling not in _STRETCHING or rope.freq_scale is not None:
        return rope
    original = rope.original_tokens or header.original_context_length or header.context_length
    if original is None:
        raise InvalidRequest(
            "the file does not say how many tokens of context the model was trained with",
            hint="give rope_freq_scale: one divided by how far the context is to be stretched",
            param="rope_scaling",
        )
    return replace(rope, freq_scale=min(1.0, original / context_tokens))


def long_context_notes(rope: Rope | None, context_tokens: int, trained_tokens: int | None) -> list[str]:
    """What to know of a context with these (resolved) settings; nothing where it is not beyond the training."""
    if trained_tokens is None or context_tokens <= trained_tokens:
        return []
    trained = f"the model was trained with {trained_tokens} tokens of context"
    if rope is None or rope.freq_scale is None:
        return [f"{trained}: beyond them its answers get worse"]
    return [f"{trained}: {rope.scaling} stretches what it was trained with {1 / rope.freq_scale:g} times"]
