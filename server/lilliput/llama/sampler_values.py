"""How tokens are drawn, as plain values that other processes can make without the library."""

from __future__ import annotations

from dataclasses import dataclass

SAMPLERS = (
    "penalties",
    "dry",
    "top_n_sigma",
    "top_k",
    "typ_p",
    "top_p",
    "min_p",
    "xtc",
    "temperature",
    "adaptive_p",
)
"""Every sampler by the name that llama.cpp gives it, in the order that holds where a request names none."""

SEQUENCE_BREAKERS = ("\n", ":", '"', "*")
"""Where DRY takes a repetition to end, as in llama.cpp's ``common_params_sampling``."""


@dataclass(frozen=True, slots=True)
class SamplerSettings:
    """How the next token is drawn; a temperature of 0 takes the likeliest token.

    Defaults are llama.cpp's own (``common_params_sampling``): those beyond ``min_p`` switch their step off. ``top_k``
    0, ``top_p`` 1, ``min_p`` 0, ``typical_p`` 1 and ``top_n_sigma`` 0 or less switch theirs off too. ``samplers`` are
    the steps in their order; a step that is not named is left out. ``repeat_last_n`` and ``dry_penalty_last_n`` are
    numbers of latest tokens, at least 0. ``mirostat`` 1 or 2 takes the place of all steps that cut candidates off.
    ``logit_bias`` comes before everything.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int = 0
    logit_bias: tuple[tuple[int, float], ...] = ()
    samplers: tuple[str, ...] = SAMPLERS
    min_keep: int = 0
    typical_p: float = 1.0
    top_n_sigma: float = -1.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    dynatemp_range: float = 0.0
    dynatemp_exponent: float = 1.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = 64
    dry_sequence_breakers: tuple[str, ...] = SEQUENCE_BREAKERS
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    adaptive_target: float = -1.0
    adaptive_decay: float = 0.9

    @property
    def penalises(self) -> bool:
        """Whether any penalty is on."""
        changed = self.repeat_penalty != 1.0 or self.frequency_penalty != 0.0 or self.presence_penalty != 0.0
        return changed and self.repeat_last_n > 0 and "penalties" in self.samplers

    @property
    def dries(self) -> bool:
        """Whether repeated sequences are held down (DRY)."""
        on = self.dry_multiplier > 0 and self.dry_base >= 1 and self.dry_penalty_last_n > 0
        return on and "dry" in self.samplers

    @property
    def adapts(self) -> bool:
        """Whether adaptive-p makes the draw."""
        return self.mirostat == 0 and self.adaptive_target >= 0 and "adaptive_p" in self.samplers

    @property
    def prompt_tokens_seen(self) -> int:
        """How many of the prompt's last tokens matter to sampling."""
        penalties = self.repeat_last_n if self.penalises else 0
        return max(penalties, self.dry_penalty_last_n if self.dries else 0)

    @property
    def is_greedy(self) -> bool:
        """Whether the temperature leaves only one candidate."""
        named = "temperature" in self.samplers or self.mirostat > 0
        return named and self.temperature <= 0 and (self.dynatemp_range <= 0 or self.mirostat > 0)
