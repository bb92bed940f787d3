"""Variants of well-known models with their settings, as the choice is given them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from lilliput.fit import (
    RAM,
    Budget,
    MemoryNeed,
    Offload,
    Option,
    QualityTable,
    Setting,
    Speed,
    UseCases,
    combine,
)
from lilliput.fit.options import Candidate
from lilliput.units import GIB, MIB

CONFIG = Path(__file__).parents[3] / "config"
TABLE = QualityTable.from_mapping(tomllib.loads((CONFIG / "quality.toml").read_text(encoding="utf-8")))
CASES = UseCases.from_mapping(tomllib.loads((CONFIG / "use_cases.toml").read_text(encoding="utf-8")))

SIZES_70B = {
    "Q8_0": 71494.28,
    "Q6_K": 55198.94,
    "Q5_K_M": 47628.36,
    "Q4_K_M": 40543.11,
    "Q4_K_S": 38470.61,
    "Q3_K_L": 35412.53,
    "Q3_K_M": 32672.53,
    "Q3_K_S": 29472.53,
    "Q2_K": 25145.77,
}
"""MiB of Llama 3.1 70B, as llama.cpp's quantizer tells them; 80 layers, 2560 MiB of KV cache at 8192 tokens in f16."""

SIZES_8B = {"F16": 15324, "Q8_0": 8138, "Q6_K": 6282, "Q5_K_M": 5459, "Q4_K_M": 4685, "Q3_K_M": 3825, "Q2_K": 3024}
"""MiB of Llama 3.1 8B as published; 32 layers, 1024 MiB of KV cache at 8192 tokens in f16."""

KV_SHARE = {"f16": 1.0, "q8_0": 0.53125, "q4_0": 0.28125}


def budget(size: float, *, total: float | None = None) -> Budget:
    """A budget of so many bytes, all of them available."""
    whole = int(size if total is None else total)
    return Budget(total_bytes=whole, available_bytes=int(size), reserve_bytes=0, use_fraction=1.0)


def machine(ram_gib: float, **accelerators_gib: float) -> dict[str, Budget]:
    """A machine on which nothing else runs: 2 GiB for the system, 0.5 in reserve, at most 80 % of RAM used."""
    ram = Budget(
        total_bytes=int(ram_gib * GIB),
        available_bytes=int((ram_gib - 2) * GIB),
        reserve_bytes=512 * MIB,
        use_fraction=0.8,
    )
    return {RAM: ram} | {name: budget((size - 1) * GIB, total=size * GIB) for name, size in accelerators_gib.items()}


class Offers:
    """Makes candidates of a model; ``bandwidths`` (bytes/s by device) give speeds, none without."""

    def __init__(
        self,
        layers: int,
        kv_mib_at_8192: float,
        *,
        architecture: str = "llama",
        bandwidths: Mapping[str, float] | None = None,
        accelerator: str | None = None,
        compute_mib: float = 400,
        experts: float = 0.0,
        active: float = 1.0,
    ) -> None:
        self.layers = layers
        self.kv_mib = kv_mib_at_8192
        self.architecture = architecture
        self.bandwidths = bandwidths or {}
        self.accelerator = accelerator
        self.compute_mib = compute_mib
        self.experts = experts
        self.active = active

    def option(self, name: str, size_mib: float, setting: Setting) -> Option:
        """The option of this setting; weights and caches are spread evenly over the layers."""
        kv = self.kv_mib * setting.context_tokens / 8192 * KV_SHARE[setting.kv_type]
        share = setting.gpu_layers / (self.layers + 1)
        kept = share * self.experts * setting.cpu_expert_layers / max(1, setting.gpu_layers)
        on_gpu = share - kept
        needs = {RAM: self._need(size_mib * (1 - on_gpu), kv * (1 - share), 64 + 0.2 * setting.slots)}
        if self.accelerator is not None and setting.gpu_layers:
            needs[self.accelerator] = self._need(size_mib * on_gpu, kv * share, 250)
        quality = combine(TABLE.of(name), TABLE.of_kv(setting.kv_type, self.architecture))
        offload: Offload = "none" if not share else "full" if on_gpu == 1 else "partial"
        speed = self._speed(needs)
        return Option(setting, needs, offload, speed, speed, quality, estimated=False)

    def candidates(
        self,
        sizes: Mapping[str, float],
        *,
        contexts: Iterable[int] = (8192, 4096, 2048),
        kv_types: Iterable[str] = ("f16", "q8_0"),
        slots: Iterable[int] = (4, 1),
        placements: Iterable[tuple[int, int]] = ((0, 0),),
    ) -> list[Candidate]:
        """One candidate a type, with every combination of settings."""
        settings = [
            Setting(context, count, kind, layers, experts)
            for context in contexts
            for count in slots
            for kind in kv_types
            for layers, experts in placements
        ]
        return [
            Candidate(name, name, int(size * MIB), tuple(self.option(name, size, one) for one in settings))
            for name, size in sizes.items()
        ]

    def _need(self, weights_mib: float, kv_mib: float, overhead_mib: float) -> MemoryNeed:
        return MemoryNeed(*(int(part * MIB) for part in (weights_mib, kv_mib, self.compute_mib, overhead_mib)))

    def _speed(self, needs: Mapping[str, MemoryNeed]) -> Speed | None:
        if not self.bandwidths:
            return None
        seconds = sum(
            (need.weights_bytes * self.active + need.kv_bytes) / self.bandwidths[name] for name, need in needs.items()
        )
        return Speed(0.8 / seconds, 1 / seconds, 1.1 / seconds)
