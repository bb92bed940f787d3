"""What a request says of sampling, as the engine wants it."""

from __future__ import annotations

import secrets
from dataclasses import fields, replace

from lilliput.llama import SamplerSettings
from lilliput.services.requests import Sampling

_SEED_LIMIT = 2**32
_SHARED_FIELDS = tuple(field.name for field in fields(Sampling) if field.name not in ("seed", "logit_bias"))


def sampler_of(sampling: Sampling) -> SamplerSettings:
    """The settings of a request, with a seed of its own where it names none."""
    seed = sampling.seed if sampling.seed is not None else secrets.randbelow(_SEED_LIMIT)
    given = {name: value for name in _SHARED_FIELDS if (value := getattr(sampling, name)) is not None}
    biases = tuple((token, bias) for token, bias in sampling.logit_bias.items() if isinstance(token, int))
    return replace(SamplerSettings(), seed=seed % _SEED_LIMIT, logit_bias=biases, **given)


def text_bias_of(sampling: Sampling) -> tuple[tuple[str, float], ...]:
    """The biases of tokens that are named by their text."""
    return tuple((text, bias) for text, bias in sampling.logit_bias.items() if isinstance(text, str))


def with_seed(sampler: SamplerSettings, choice: int) -> SamplerSettings:
    """The settings of choice number ``choice``: its own seed, so that choices differ and still reproduce."""
    return replace(sampler, seed=(sampler.seed + choice) % _SEED_LIMIT)
