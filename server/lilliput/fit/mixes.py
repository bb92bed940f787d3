"""Which tensor types a variant of some name is usually made of."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from lilliput.gguf import GgmlType

_MIXES: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "Q2_K": {"Q2_K": 0.49, "Q3_K": 0.34, "Q4_K": 0.03, "Q6_K": 0.14},
        "Q2_K_S": {"Q2_K": 0.70, "Q3_K": 0.14, "Q6_K": 0.16},
        "Q3_K_S": {"Q3_K": 0.87, "Q6_K": 0.13},
        "Q3_K_M": {"Q3_K": 0.50, "Q4_K": 0.36, "Q5_K": 0.03, "Q6_K": 0.11},
        "Q3_K_L": {"Q3_K": 0.47, "Q5_K": 0.43, "Q6_K": 0.10},
        "Q4_K_S": {"Q4_K": 0.86, "Q5_K": 0.04, "Q6_K": 0.10},
        "Q4_K_M": {"Q4_K": 0.73, "Q6_K": 0.27},
        "Q5_K_S": {"Q5_K": 0.92, "Q6_K": 0.08},
        "Q5_K_M": {"Q5_K": 0.77, "Q6_K": 0.23},
        "Q6_K": {"Q6_K": 1.0},
        "Q8_K": {"Q8_0": 1.0},
        "IQ4_XS": {"IQ4_XS": 0.84, "Q5_K": 0.06, "Q6_K": 0.10},
        "IQ4_NL": {"IQ4_NL": 0.85, "Q5_K": 0.06, "Q6_K": 0.09},
        "IQ3_M": {"IQ3_S": 0.59, "Q4_K": 0.29, "Q6_K": 0.12},
        "IQ3_XS": {"IQ3_XXS": 0.38, "IQ3_S": 0.50, "Q6_K": 0.12},
        "IQ2_M": {"IQ2_S": 0.68, "IQ3_S": 0.20, "Q5_K": 0.12},
        "MXFP4_MOE": {"MXFP4": 0.90, "Q8_0": 0.10},
    }
)
"""Parts of the bytes that a token reads of Llama 3 8B, by the rules of llama.cpp's ``llama-quant.cpp``: which tensors
get a finer type there, weighed by their sizes."""

_EMBEDDED = ("_XL", "_L")
"""Endings of makers' variants that keep the embedding finer: they are taken as the M mixture, or the only one.

There is no file of ``Q8_K``, the type of products: such variants are of Q8_0."""


def type_mix(quantization: str | None) -> Mapping[str, float] | None:
    """Parts of a variant's bytes by tensor type, adding up to 1; None when the name tells nothing."""
    name = (quantization or "").removeprefix("UD-")
    if name in _MIXES:
        return _MIXES[name]
    if name in GgmlType.__members__:
        return {name: 1.0}
    for ending in _EMBEDDED:
        if name.endswith(ending):
            base = name.removesuffix(ending)
            return _MIXES.get(f"{base}_M") or _MIXES.get(base)
    return None
