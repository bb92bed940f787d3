"""Log-probabilities from raw logits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def token_logprobs(logits: npt.NDArray[np.float32], token: int, count: int) -> tuple[float, list[tuple[int, float]]]:
    """The natural-log probability of ``token`` and the ``count`` likeliest (token, logprob), likeliest first.

    ``logits`` has shape (vocab_size,); the distribution is the model's own, before any sampling step.
    """
    wide = logits.astype(np.float64)
    peak = wide.max()
    normalizer = peak + np.log(np.exp(wide - peak).sum())
    count = min(count, len(wide))
    if count == 0:
        return float(wide[token] - normalizer), []
    likeliest = np.argpartition(wide, -count)[-count:]
    likeliest = likeliest[np.argsort(-wide[likeliest], kind="stable")]
    return float(wide[token] - normalizer), [(int(one), float(wide[one] - normalizer)) for one in likeliest]
