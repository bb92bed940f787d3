"""Which of two variants of one model is nearer to the original, told from type and size alone."""

from __future__ import annotations

_FULL_PRECISION = frozenset({"BF16", "F16", "F32", "F64"})

_EFFICIENCY = {
    "Q2_K": 0.93,
    "Q2_K_S": 0.93,
    "Q3_K_S": 0.88,
    "Q4_0": 0.93,
    "Q4_1": 0.85,
    "Q5_0": 0.95,
    "Q5_1": 0.92,
}
"""Types that keep less than others of their size. The factor brings a file to the size of the K or IQ type with the
same divergence from the original in llama.cpp's published scoreboard (``tools/perplexity/README.md``, Llama 3 8B)."""


def is_full_precision(quantization: str | None) -> bool:
    """Whether the type is a floating-point format rather than a quantization."""
    return quantization in _FULL_PRECISION


def quality_rank(quantization: str | None, file_bytes: int) -> float:
    """A number that is larger for the better of two variants of one model: its bytes, discounted for wasteful types."""
    return file_bytes * _EFFICIENCY.get(quantization or "", 1.0)
