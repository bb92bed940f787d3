"""Where a variant's bytes lie: block by block, so that they can be shared out between devices."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from lilliput.gguf import Tensor

_BLOCK = re.compile(r"blk\.(\d+)\.")
_EXPERTS = re.compile(r"ffn_(up|down|gate|gate_up)_(ch|)exps")
_OUTPUT = ("output", "cls", "per_layer_model_proj")

_LEAST_LARGE_BYTES = 16 * 1024**2
"""Every device takes tensors of 128 MiB (Vulkan's least), and variants differ in size by less than 8."""

_PROBE_COLUMNS = 512
"""llama.cpp asks a device whether it multiplies a weight by so many columns, in single precision."""


@dataclass(frozen=True, slots=True)
class LargeTensor:
    """A matrix that some device may not take. ``layer`` is the index of its layer, or their number for the output.

    ``copied``: it is the token embedding, of which the output would have a copy.
    """

    layer: int
    size_bytes: int
    rows: int
    expert: bool = False
    copied: bool = False

    @property
    def span_bytes(self) -> int:
        """What a device has to reach in one piece to use it: the matrix, or its product."""
        return max(self.size_bytes, 4 * _PROBE_COLUMNS * self.rows)


@dataclass(frozen=True, slots=True)
class Layout:
    """Weights of one variant in bytes, tensor data without padding.

    ``blocks`` are all tensors of each layer, ``experts`` those among them that belong to experts. ``input_bytes`` (the
    token embedding) stays in main memory; ``output_bytes`` goes with the last layer. Without a matrix of its own the
    output uses the token embedding, of which a device then gets a copy of ``tied_bytes``. ``large`` are the matrices
    that may be too much for a device in one piece.
    """

    blocks: tuple[int, ...]
    experts: tuple[int, ...]
    input_bytes: int
    output_bytes: int
    tied_bytes: int
    large: tuple[LargeTensor, ...] = ()

    @property
    def total_bytes(self) -> int:
        """All tensors, each once."""
        return sum(self.blocks) + self.input_bytes + self.output_bytes

    @property
    def has_experts(self) -> bool:
        """Whether the model is a mixture of experts."""
        return any(self.experts)


def layout_of(tensors: Iterable[Tensor], block_count: int) -> Layout:
    """The layout of a model with ``block_count`` layers; tensors of blocks beyond count as input."""
    blocks, experts = [0] * block_count, [0] * block_count
    large: list[LargeTensor] = []
    first = last = 0
    embedding: Tensor | None = None
    own_output = False
    for tensor in tensors:
        found = _BLOCK.match(tensor.name)
        if found and (layer := int(found[1])) < block_count:
            expert = _EXPERTS.search(tensor.name) is not None
            blocks[layer] += tensor.size_bytes
            experts[layer] += tensor.size_bytes if expert else 0
            large.append(_large(tensor, layer, expert=expert))
        elif tensor.name.startswith(_OUTPUT):
            last += tensor.size_bytes
            own_output = own_output or tensor.name == "output.weight"
            large.append(_large(tensor, block_count))
        else:
            first += tensor.size_bytes
            if tensor.name == "token_embd.weight":
                embedding = tensor
    tied = embedding if not own_output else None
    if tied is not None:
        large.append(_large(tied, block_count, copied=True))
    return Layout(
        tuple(blocks),
        tuple(experts),
        first,
        last,
        tied.size_bytes if tied is not None else 0,
        tuple(one for one in large if one.span_bytes >= _LEAST_LARGE_BYTES),
    )


def _large(tensor: Tensor, layer: int, *, expert: bool = False, copied: bool = False) -> LargeTensor:
    rows = tensor.shape[1] if len(tensor.shape) > 1 else 0
    return LargeTensor(layer, tensor.size_bytes, rows, expert, copied)


def scale_layout(layout: Layout, total_bytes: int) -> Layout:
    """The same proportions at another size: for a variant of which only the size is known."""
    whole = layout.total_bytes

    def fit(size: int) -> int:
        return size * total_bytes // whole if whole else 0

    return Layout(
        tuple(map(fit, layout.blocks)),
        tuple(map(fit, layout.experts)),
        fit(layout.input_bytes),
        fit(layout.output_bytes),
        fit(layout.tied_bytes),
        tuple(replace(one, size_bytes=fit(one.size_bytes)) for one in layout.large),
    )
