"""What llama.cpp says of its buffers while it loads, read from its log lines. Pure: needs no library.

The lines come from ``llama_model_loader``, ``llama_kv_cache``, ``llama_memory_recurrent``, ``llama_context`` and its
scheduler; they are the only place where sizes by device can be had through the C interface.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

CacheKind = Literal["attention", "window", "recurrent"]

_MIB = 1024**2
_BUFFER = re.compile(r":\s+(\S+)\s+(model|KV|RS|compute|output) buffer size =\s+([\d.]+) MiB")
_CACHE = re.compile(r"(llama_\w+): size =\s+([\d.]+) MiB \(\s*(\d+) cells,\s+(\d+) layers")


@dataclass(frozen=True, slots=True)
class CacheSize:
    """One cache of a context: bytes in all, cells of a layer (for recurrent state: sequences), and its layers."""

    kind: CacheKind
    size_bytes: int
    cells: int
    layers: int


@dataclass(frozen=True, slots=True)
class Buffers:
    """Sizes in bytes by ggml buffer name (``CPU``, ``CPU_Mapped``, ``CPU_REPACK``, ``Vulkan0``, ``CUDA_Host``, …).

    A dry run allocates neither weights nor caches: then ``weights`` and ``kv`` are zero and ``caches`` tell the truth.
    """

    weights: Mapping[str, int]
    kv: Mapping[str, int]
    compute: Mapping[str, int]
    output: Mapping[str, int]
    caches: tuple[CacheSize, ...]

    @property
    def cache_bytes(self) -> int:
        """All caches together."""
        return sum(cache.size_bytes for cache in self.caches)


def parse_buffers(lines: Iterable[str]) -> Buffers:
    """The sizes that the log of one load (and one context) tells, each rounded by llama.cpp to 0.01 MiB."""
    sizes: dict[str, Counter[str]] = {kind: Counter() for kind in ("model", "KV", "RS", "compute", "output")}
    caches: list[CacheSize] = []
    window = False
    for line in lines:
        if "creating" in line and "SWA KV cache" in line:
            window = "non-SWA" not in line
        elif found := _BUFFER.search(line):
            name, kind, mib = found.groups()
            if kind in ("compute", "output"):  # told again when the scheduler reserves anew: the last one holds
                sizes[kind][name] = _bytes(mib)
            else:
                sizes[kind][name] += _bytes(mib)
        elif found := _CACHE.search(line):
            caches.append(_cache(*found.groups(), window=window))
    return Buffers(sizes["model"], sizes["KV"] + sizes["RS"], sizes["compute"], sizes["output"], tuple(caches))


def _cache(where: str, mib: str, cells: str, layers: str, *, window: bool) -> CacheSize:
    kind: CacheKind = "window" if window else "attention"
    if "recurrent" in where:
        kind = "recurrent"
    return CacheSize(kind, _bytes(mib), int(cells), int(layers))


def _bytes(mib: str) -> int:
    return round(float(mib) * _MIB)
