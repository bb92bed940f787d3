"""The settings that loads are measured at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

CONTEXTS = (512, 2048, 8192)
SLOTS = (1, 8)
KV_TYPES = ("f16", "q8_0", "q4_0")
FLASH = {"on": True, "off": False, "auto": None}

STEPS = 2
"""Tokens on each sequence after the prompt."""

_STRIDE = 17
"""Coprime to the number of settings: neighbours in the walk differ in most of their parts."""


@dataclass(frozen=True, slots=True)
class LoadSetting:
    """One way to load: ``flash`` is ``"on"``, ``"off"`` or ``"auto"``, as a plan has it."""

    context_tokens: int
    slots: int
    kv_type: str
    flash: str

    @property
    def ubatch_tokens(self) -> int:
        """The micro-batch: an engine's own for some, a small one for the others, since each load fills it."""
        return 512 if (self.context_tokens, self.kv_type) == (2048, "f16") else 64

    def used_cells(self, sequences: int) -> int:
        """Cells that forward passes look at: of the prompt and the tokens after it, rounded as llama.cpp does."""
        tokens = self.ubatch_tokens + sequences * STEPS
        return min(self.context_tokens, -(-tokens // 256) * 256)


def every_setting() -> tuple[LoadSetting, ...]:
    """All that engines are loaded with: to quantized values plans leave flash attention automatic."""
    every = (LoadSetting(*parts) for parts in product(CONTEXTS, SLOTS, KV_TYPES, FLASH))
    return tuple(one for one in every if one.flash == "auto" or one.kv_type == "f16")


def some_settings(number: int, count: int) -> Sequence[LoadSetting]:
    """``count`` settings for the variant of this number: a walk that comes by every setting in turn."""
    every = every_setting()
    return [every[(number * count + step) * _STRIDE % len(every)] for step in range(count)]
