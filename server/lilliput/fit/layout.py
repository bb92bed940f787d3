"""Where a variant's bytes lie: block by block, so that they can be shared out between devices."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from lilliput.gguf import Tensor

_BLOCK = re.compile(r"blk\.(\d+)\.")
_EXPERTS = re.compile(r"ffn_(up|down|gate|gate_up)_(ch|)exps")
_OUTPUT = ("output", "cls", "per_layer_model_proj")


@dataclass(frozen=True, slots=True)
class Layout:
    """Weights of one variant in bytes, tensor data without padding.

    ``blocks`` are all tensors of each layer, ``experts`` those among them that belong to experts. ``input_bytes`` (the
    token embedding) stays in main memory; ``output_bytes`` goes with the last layer. Without a matrix of its own the
    output uses the token embedding, of which a device then gets a copy of ``tied_bytes``.
    """

    blocks: tuple[int, ...]
    experts: tuple[int, ...]
    input_bytes: int
    output_bytes: int
    tied_bytes: int

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
    first = last = embedding = 0
    own_output = False
    for tensor in tensors:
        found = _BLOCK.match(tensor.name)
        if found and int(found[1]) < block_count:
            blocks[int(found[1])] += tensor.size_bytes
            if _EXPERTS.search(tensor.name):
                experts[int(found[1])] += tensor.size_bytes
        elif tensor.name.startswith(_OUTPUT):
            last += tensor.size_bytes
            own_output = own_output or tensor.name == "output.weight"
        else:
            first += tensor.size_bytes
            if tensor.name == "token_embd.weight":
                embedding = tensor.size_bytes
    return Layout(tuple(blocks), tuple(experts), first, last, 0 if own_output else embedding)


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
    )
