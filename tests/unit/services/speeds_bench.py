"""The children that measure speeds, played."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

BANDWIDTH_BYTES_S = 25e9


def line(run: str, kind: str, layers: int, size: int, byte_s: float) -> dict[str, Any]:
    """A line of the probe for a model that costs 10 microseconds a layer beside its bytes."""
    return {
        "run": run,
        "type": kind,
        "layers": layers,
        "vocabulary": 1000 * layers,
        "weight_bytes": {kind: size},
        "decode_s": layers * 1e-5 + size * byte_s,
        "sample_s": 1e-4,
        "prompt_s": 0.1,
        "prompt_tokens": 64,
        "busy": 1.0,
    }


class Probe:
    """Plays the children: the bandwidth, then for each type what ``byte_s`` says, an eighth of it on accelerators.

    Types of ``broken`` print nothing.
    """

    def __init__(self) -> None:
        self.byte_s = {"F16": 5e-11, "Q4_K": 8e-11, "Q8_0": 6e-11}
        self.broken: set[str] = set()
        self.disturbed: set[str] = set()
        self.asked: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.bandwidths = 0
        self.bandwidth: list[dict[str, Any]] | None = [{"bandwidth_bytes_s": BANDWIDTH_BYTES_S, "cache_bound": False}]
        self.idle = asyncio.Event()
        self.idle.set()

    async def measure(
        self, arguments: tuple[str, ...], request: bytes, timeout_s: float, busy: Callable[[], bool] | None = None
    ) -> list[dict[str, Any]] | None:
        assert timeout_s > 0
        if arguments[0] == "lilliput.hardware.bandwidth":
            self.bandwidths += 1
            return self.bandwidth
        asked = msgspec.json.decode(request)
        self.requests.append(asked)
        (kind,) = asked["types"]
        self.asked.append(kind)
        if kind in self.disturbed:
            self.disturbed.discard(kind)
            return None
        if kind in self.broken:
            return []
        byte_s = self.byte_s[kind] / (8 if asked.get("device") else 1)
        lines = [line("small", kind, 4, 10_000_000, byte_s), line("large", kind, 8, 400_000_000, byte_s)]
        if asked["experts"] and "experts" not in self.broken:
            experts = line("experts", kind, 8, 100_000_000, 1.5 * byte_s)
            lines.append(experts | {"expert_bytes": {kind: 90_000_000}})
        return lines

    async def quiet(self, busy: Callable[[], bool], for_s: float) -> None:
        assert for_s > 0
        await self.idle.wait()
