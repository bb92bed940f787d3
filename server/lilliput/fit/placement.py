"""Share a model's layers out between main memory and accelerators, as llama.cpp does it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from lilliput.fit.layout import Layout
from lilliput.fit.options import RAM

SHARE_STEPS = 64
"""Shares are told in so many parts of the whole: what is free changes all the time, and what llama.cpp was asked about
some shares is not asked again for nearly the same. As a power of two it is exact in C's floats, too.
"""


@dataclass(frozen=True, slots=True)
class Part:
    """What one device holds of a model, in bytes, and how many layers (the output counts as one)."""

    weights_bytes: int = 0
    kv_bytes: int = 0
    layers: int = 0


def shares_of(rooms: Sequence[int]) -> tuple[float, ...]:
    """The part of the offloaded layers for each of the devices with so much room (bytes): parts of ``SHARE_STEPS``."""
    sizes = [max(0, room) for room in rooms] if any(room > 0 for room in rooms) else [1] * len(rooms)
    bounds = [0, *(round(SHARE_STEPS * some / sum(sizes)) for some in accumulate(sizes))]
    return tuple(float(end - begin) for begin, end in pairwise(bounds))


def homes(block_count: int, devices: Sequence[tuple[str, float]], gpu_layers: int) -> tuple[str, ...]:
    """The device of each layer and, last, of the output. ``devices`` are names and shares.

    The last ``gpu_layers`` layers are offloaded, of which the output is the very last; each goes to the device whose
    share of them it falls into (``load_tensors`` in llama.cpp's ``llama-model.cpp``).
    """
    offloaded = min(gpu_layers, block_count + 1) if devices else 0
    first = block_count + 1 - offloaded
    bounds = list(accumulate(share for _, share in devices))

    def home(layer: int) -> str:
        if layer < first:
            return RAM
        part = (layer - first) / offloaded * bounds[-1]
        return devices[min(bisect_right(bounds, part), len(devices) - 1)][0]

    return tuple(home(layer) for layer in range(block_count + 1))


def place(
    layout: Layout,
    kv_blocks: Sequence[int],
    places: Sequence[str],
    cpu_expert_layers: int = 0,
    limits: Mapping[str, int] | None = None,
) -> dict[str, Part]:
    """Parts by device, ``ram`` first, for layers at ``places`` (see ``homes``); ``kv_blocks`` are cache bytes by layer.

    The experts of the first ``cpu_expert_layers`` layers stay in main memory wherever the rest of their layer goes, and
    so do tensors that are more than the device takes in one piece: ``limits`` are those bytes by device.
    """
    parts = {name: [0, 0, 0] for name in (RAM, *places)}
    for layer, where in enumerate(places[:-1]):
        experts = layout.experts[layer] if layer < cpu_expert_layers else 0
        _add(parts, where, layout.blocks[layer] - experts, kv_blocks[layer], 1)
        _add(parts, RAM, experts, 0, 0)
    _add(parts, RAM, layout.input_bytes, 0, 0)
    tied = layout.tied_bytes if places[-1] != RAM else 0
    _add(parts, places[-1], layout.output_bytes + tied, 0, 1)
    for one in layout.large if limits else ():
        where = places[one.layer]
        stays = one.expert and one.layer < cpu_expert_layers
        if limits and not stays and one.span_bytes > limits.get(where, one.span_bytes):
            _add(parts, where, -one.size_bytes, 0, 0)
            _add(parts, RAM, 0 if one.copied else one.size_bytes, 0, 0)
    return {name: Part(*values) for name, values in parts.items()}


def _add(parts: dict[str, list[int]], name: str, weights: int, kv: int, layers: int) -> None:
    part = parts[name]
    part[0] += weights
    part[1] += kv
    part[2] += layers
