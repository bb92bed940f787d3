"""The settings that loads are measured at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from lilliput.llama import ContextSettings

CONTEXTS = (512, 2048, 8192)
SLOTS = (1, 8)
KV_TYPES = ("f16", "q8_0", "q4_0")
FLASH = {"on": True, "off": False, "auto": None}

STEPS = 2
"""Tokens on each slot after the prompt."""

_STRIDE = 17
"""Coprime to the number of settings: neighbours in the walk differ in most of their parts."""


@dataclass(frozen=True, slots=True)
class LoadSetting:
    """One way to load: ``flash`` is ``"on"``, ``"off"`` or ``"auto"``; automatic ones keep room for all logits, too."""

    context_tokens: int
    slots: int
    kv_type: str
    flash: str

    @property
    def ubatch_tokens(self) -> int:
        """The micro-batch: an engine's own for some, a small one for the others, since each load fills it."""
        return 512 if (self.context_tokens, self.kv_type) == (2048, "f16") else 64

    @property
    def used_cells(self) -> int:
        """Cells that forward passes look at: of the prompt and the tokens after it, rounded as llama.cpp does."""
        tokens = self.ubatch_tokens + self.slots * STEPS
        return min(self.context_tokens, -(-tokens // 256) * 256)

    def context(self, *, touched: bool = False, threads: int = 1) -> ContextSettings:
        """The context as it is made; with ``touched`` one whose compute buffer is as large as what passes use of it."""
        sequences = self.slots + 1
        return ContextSettings(
            context_tokens=self.used_cells if touched else self.context_tokens,
            max_sequences=sequences,
            ubatch_tokens=self.ubatch_tokens,
            threads=threads,
            flash_attention=FLASH[self.flash],
            kv_type=self.kv_type,
            output_rows=0 if self.flash == "auto" and not touched else sequences,
        )


def every_setting() -> tuple[LoadSetting, ...]:
    """All that llama.cpp allows: quantized values need flash attention."""
    every = (LoadSetting(*parts) for parts in product(CONTEXTS, SLOTS, KV_TYPES, FLASH))
    return tuple(one for one in every if one.flash != "off" or one.kv_type == "f16")


def some_settings(number: int, count: int) -> Sequence[LoadSetting]:
    """``count`` settings for the variant of this number: a walk that comes by every setting in turn."""
    every = every_setting()
    return [every[(number * count + step) * _STRIDE % len(every)] for step in range(count)]
