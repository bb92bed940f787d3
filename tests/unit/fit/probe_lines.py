"""What the speed probe would print on a machine whose costs are known: the inverse of ``calibrate``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from lilliput.fit.traffic import elements_of

Line = dict[str, Any]
PROMPT_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds a byte by type (``byte_s``) and the fixed costs, as ``Calibration`` has them."""

    byte_s: dict[str, float] = field(default_factory=lambda: {"F16": 5e-11, "Q4_K": 8e-11, "Q8_0": 6e-11})
    element_s: float = 1e-11
    layer_s: float = 2e-5
    token_s: float = 4e-5
    vocab_row_s: float = 3e-9
    attention_s: float = 2e-11
    prompt_layer_s: float = 1e-6
    prompt_attention_s: float = 3e-11
    expert_factor: float = 1.5
    prompt_expert_factor: float = 2.0

    def lines(self, types: Iterable[str] = ("F16", "Q4_K", "Q8_0"), *, experts: bool = False) -> list[Line]:
        """The lines of a run over these types."""
        lines = []
        for at, name in enumerate(types):
            lines += [self.line("small", name, 24, 8192, 8_000_000), self.line("large", name, 4, 1024, 96_000_000)]
            if experts:
                lines.append(self.line("experts", name, 8, 1024, 30_000_000, 20_000_000))
            if at == 0:
                lines.append(self.attention())
        return [*lines, {"run": "done", "took_s": 1.0, "skipped": []}]

    def line(self, run: str, name: str, layers: int, vocabulary: int, size: int, experts: int = 0) -> Line:
        """The line of one model; of its ``size`` bytes some are ``experts``."""
        weighed = size + (self.expert_factor - 1) * experts
        products = elements_of(name, size) + (self.prompt_expert_factor - 1) * elements_of(name, experts)
        prompt_layers_s = layers * self.prompt_layer_s if run != "large" else 0.0  # there it is no matter
        return {
            "run": run,
            "type": name,
            "layers": layers,
            "vocabulary": vocabulary,
            "weight_bytes": {name: size},
            "expert_bytes": {name: experts} if experts else {},
            "decode_s": layers * self.layer_s + weighed * self.byte_s[name],
            "sample_s": self.token_s + vocabulary * self.vocab_row_s,
            "prompt_s": PROMPT_TOKENS * (products * self.element_s + prompt_layers_s),
            "prompt_tokens": PROMPT_TOKENS,
            "busy": 1.0,
        }

    def attention(self) -> Line:
        """The line about attention."""
        elements, prompt_elements = 11_000_000, 2_400_000_000
        return {
            "run": "attention",
            "elements": elements,
            "decode_s": elements * self.attention_s,
            "prompt_elements": prompt_elements,
            "prompt_s": prompt_elements * self.prompt_attention_s,
        }
