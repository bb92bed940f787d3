"""From settings to the parts of a sampler chain."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from llama_cpp import llama_cpp as c

from lilliput.llama.model import Model
from lilliput.llama.sampler_values import SAMPLERS, SamplerSettings

Part: TypeAlias = Any
"""Pointer to a sampler of the library."""

BANNED = float("-inf")

_MIROSTAT_TOKENS = 100
"""Likeliest tokens that Mirostat 1 estimates its exponent from, as llama-server does."""

_IMPOSSIBLE = 1e-30
_SEED_THAT_MEANS_RANDOM = 0xFFFFFFFF
_ITS_REPLACEMENT = 0x5EED5EED


def chain_parts(model: Model, settings: SamplerSettings) -> Iterator[Part]:
    """The parts in their order, each new and owned by the caller; the last one chooses the token."""
    if settings.logit_bias:
        yield bias_part(model, settings.logit_bias)
    if settings.mirostat:
        yield from _mirostat(model, settings)
        return
    for name in settings.samplers:
        if name == "temperature" and settings.is_greedy:
            yield c.llama_sampler_init_greedy()
            return
        if not _changes_nothing(name, settings):
            yield from _part(name, model, settings)
    if settings.adapts:
        yield c.llama_sampler_init_adaptive_p(settings.adaptive_target, settings.adaptive_decay, _seed(settings))
    else:
        yield c.llama_sampler_init_dist(_seed(settings))


def bias_part(model: Model, biases: Iterable[tuple[int, float]]) -> Part:
    """Adds each bias to the logit of its token."""
    listed = [c.llama_logit_bias(token, bias) for token, bias in biases]
    return c.llama_sampler_init_logit_bias(model.vocab_size, len(listed), (c.llama_logit_bias * len(listed))(*listed))


def deciding_candidates(settings: SamplerSettings) -> int | None:
    """How many of the likeliest candidates (after the bias) decide the draw alone; None when all do."""
    if settings.penalises or settings.dries or settings.mirostat:
        return None
    for name in settings.samplers:
        if name == "temperature" and settings.is_greedy:
            return 1
        if _changes_nothing(name, settings) or (name == "temperature" and settings.dynatemp_range <= 0):
            continue
        return settings.top_k if name == "top_k" else None
    return None


def _is_on(name: str, settings: SamplerSettings) -> bool:
    return {
        "penalties": settings.penalises,
        "dry": settings.dries,
        "top_n_sigma": settings.top_n_sigma > 0,
        "top_k": settings.top_k > 0,
        "typ_p": settings.typical_p < 1,
        "top_p": settings.top_p < 1,
        "min_p": settings.min_p > 0,
        "xtc": settings.xtc_probability > 0 and settings.xtc_threshold <= 0.5,
        "temperature": True,
        "adaptive_p": False,  # makes the draw itself, whatever its place
    }[name]


def _changes_nothing(name: str, settings: SamplerSettings) -> bool:
    """Whether a step is off, or only cuts off candidates behind the likeliest one when that one is taken anyway."""
    if not _is_on(name, settings):
        return True
    ranked_before = settings.samplers == SAMPLERS or not (settings.penalises or settings.dries)
    likeliest_stays = ranked_before and not _is_on("typ_p", settings) and not _is_on("xtc", settings)
    return settings.is_greedy and likeliest_stays and name in ("top_n_sigma", "top_k", "top_p", "min_p")


def _part(name: str, model: Model, settings: SamplerSettings) -> Iterator[Part]:
    keep = settings.min_keep
    if name == "penalties":
        yield c.llama_sampler_init_penalties(
            model.vocab_size,
            settings.repeat_last_n,
            settings.repeat_penalty,
            settings.frequency_penalty,
            settings.presence_penalty,
        )
    elif name == "dry":
        yield _dry(model, settings)
    elif name == "top_n_sigma":
        yield c.llama_sampler_init_top_n_sigma(settings.top_n_sigma)
    elif name == "top_k":
        yield c.llama_sampler_init_top_k(settings.top_k)
    elif name == "typ_p":
        # The library's entropy is not a number as soon as one candidate has a probability of zero.
        yield c.llama_sampler_init_min_p(_IMPOSSIBLE, 1)
        yield c.llama_sampler_init_typical(settings.typical_p, keep)
    elif name == "top_p":
        yield c.llama_sampler_init_top_p(settings.top_p, keep)
    elif name == "min_p":
        yield c.llama_sampler_init_min_p(settings.min_p, keep)
    elif name == "xtc":
        yield c.llama_sampler_init_xtc(settings.xtc_probability, settings.xtc_threshold, keep, _seed(settings))
    elif settings.dynatemp_range > 0:
        yield c.llama_sampler_init_temp_ext(settings.temperature, settings.dynatemp_range, settings.dynatemp_exponent)
    else:
        yield c.llama_sampler_init_temp(settings.temperature)


def _mirostat(model: Model, settings: SamplerSettings) -> Iterator[Part]:
    for name in settings.samplers:
        if name in ("penalties", "dry") and _is_on(name, settings):
            yield from _part(name, model, settings)
    if settings.is_greedy:
        yield c.llama_sampler_init_greedy()
        return
    yield c.llama_sampler_init_temp(settings.temperature)
    if settings.mirostat == 1:
        yield c.llama_sampler_init_min_p(_IMPOSSIBLE, 1)  # it divides by probabilities
        yield c.llama_sampler_init_mirostat(
            model.vocab_size, _seed(settings), settings.mirostat_tau, settings.mirostat_eta, _MIROSTAT_TOKENS
        )
    else:
        yield c.llama_sampler_init_mirostat_v2(_seed(settings), settings.mirostat_tau, settings.mirostat_eta)


def _dry(model: Model, settings: SamplerSettings) -> Part:
    breakers = [breaker.encode() for breaker in settings.dry_sequence_breakers]
    return c.llama_sampler_init_dry(
        model.vocab_handle,
        settings.dry_multiplier,
        settings.dry_base,
        settings.dry_allowed_length,
        settings.dry_penalty_last_n,
        (ctypes.c_char_p * len(breakers))(*breakers),
        len(breakers),
    )


def _seed(settings: SamplerSettings) -> int:
    return _ITS_REPLACEMENT if settings.seed == _SEED_THAT_MEANS_RANDOM else settings.seed
