"""How much memory a model needs, by formula: exact for weights and caches, close for compute buffers.

Measured against llama.cpp's own dry runs on CPU with flash attention: caches equal to the byte, compute buffers equal
for dense models with large vocabularies and within a few per cent elsewhere.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace

from lilliput.errors import InvalidRequest
from lilliput.fit.resident import batch_bytes, process_bytes, tokenizer_bytes
from lilliput.fit.shape import CacheLayer, Shape
from lilliput.gguf import GgmlType

KV_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")

ESTIMATE_MARGIN = 0.1
"""How far caches and scratch of the formula may be off together, as a fraction.

The worst of dense, windowed, hybrid, latent and expert shapes with 2048 to 131072 tokens, 1 and 9 sequences and
caches of f16, q8_0 and q4_0, against llama.cpp's dry runs with flash attention: 8 % too little. Caches are equal.
"""

_CELL_STEP = 256
"""llama.cpp rounds the cells of a cache up to this."""

_TENSORS_A_BLOCK = 12
"""Typical number of tensors of a layer, for what a process keeps of each."""

_MOST_LATENT = 16384
"""Scratch of latent attention that is still held when the logits are made, in elements a token."""


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Memory of one loaded variant on one device, in bytes.

    ``weights_bytes``: the tensors. ``kv_bytes``: attention caches and recurrent state. ``compute_bytes``: scratch of
    the forward pass. ``overhead_bytes``: the process, its tokenizer and output rows.

    In main memory ``copied_bytes`` of the weights are repacked, in anonymous memory, and the others mapped from the
    file; ``idle_bytes`` are mapped originals of what was repacked, which are not counted: nobody reads them again.
    """

    weights_bytes: int
    kv_bytes: int
    compute_bytes: int
    overhead_bytes: int
    copied_bytes: int = 0
    idle_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """All four parts."""
        return self.weights_bytes + self.kv_bytes + self.compute_bytes + self.overhead_bytes

    @property
    def resident_bytes(self) -> int:
        """What a process shows of it when all was touched and the system has dropped nothing."""
        return self.total_bytes + self.idle_bytes

    def __add__(self, other: MemoryNeed) -> MemoryNeed:
        """Both, part by part."""
        return MemoryNeed(*(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True)))

    def unmapped(self) -> MemoryNeed:
        """The same where no file is mapped: all weights are in anonymous memory."""
        return replace(self, copied_bytes=self.weights_bytes, idle_bytes=0)

    def locked(self) -> MemoryNeed:
        """The same where the mapped file is locked in memory: the system cannot drop what is idle, so it counts."""
        return replace(self, weights_bytes=self.weights_bytes + self.idle_bytes, idle_bytes=0)


def estimate_need(
    shape: Shape,
    weights_bytes: int,
    context_tokens: int,
    slots: int,
    *,
    ubatch_tokens: int = 512,
    kv_type: str = "f16",
    swa_full: bool = False,
    flash_attention: bool = True,
) -> MemoryNeed:
    """The need of ``slots`` sequences that share ``context_tokens`` cells. InvalidRequest for an unknown KV type."""
    cells = round_cells(context_tokens)
    ubatch = min(ubatch_tokens, cells)
    kv = kv_by_block(shape, context_tokens, slots, ubatch_tokens=ubatch_tokens, kv_type=kv_type, swa_full=swa_full)
    quantized = kv_type.lower() not in ("f32", "f16", "bf16")
    return MemoryNeed(
        weights_bytes=weights_bytes,
        kv_bytes=sum(kv),
        compute_bytes=_compute_bytes(shape, cells, ubatch, quantized=quantized, flash_attention=flash_attention),
        overhead_bytes=_overhead_bytes(shape, ubatch) + 4 * shape.vocab_size * slots,
    )


def kv_by_block(
    shape: Shape,
    context_tokens: int,
    slots: int,
    *,
    ubatch_tokens: int = 512,
    kv_type: str = "f16",
    swa_full: bool = False,
) -> tuple[int, ...]:
    """Bytes of attention cache, or else of recurrent state, of each block. InvalidRequest for an unknown KV type."""
    cells = round_cells(context_tokens)
    blocks = [0] * shape.block_count
    for layer in shape.layers:
        held = cells if swa_full else layer_cells(layer, cells, slots, ubatch_tokens)
        blocks[layer.block] += held * (
            _row_bytes(layer.key_elements, kv_type) + _row_bytes(layer.value_elements, kv_type)
        )
    bare = [block for block, size in enumerate(blocks) if not size] or list(range(len(blocks)))
    for place, block in enumerate(bare):
        whole = shape.recurrent_bytes * slots
        blocks[block] += whole * (place + 1) // len(bare) - whole * place // len(bare)
    return tuple(blocks)


def round_cells(context_tokens: int) -> int:
    """The cells llama.cpp makes for so many tokens: the next multiple of 256."""
    return -(-max(1, context_tokens) // _CELL_STEP) * _CELL_STEP


def layer_cells(layer: CacheLayer, cells: int, slots: int, ubatch_tokens: int) -> int:
    """Cells of one layer: all of them, or for a sliding window one window a sequence and the tokens in flight."""
    if layer.window_tokens is None:
        return cells
    return min(cells, round_cells(layer.window_tokens * slots + ubatch_tokens))


def _row_bytes(elements: int, kv_type: str) -> int:
    if kv_type.lower() not in KV_TYPES:
        raise InvalidRequest(f"{kv_type!r} is no type for a KV cache", hint=f"one of {', '.join(KV_TYPES)}")
    kind = GgmlType[kv_type.upper()]
    return -(-elements // kind.block_elements) * kind.block_bytes


def _overhead_bytes(shape: Shape, ubatch: int) -> int:
    """The process as ``fit/resident.py`` counts it; a vocabulary of unknown kind has a merge rule for each entry."""
    merges = shape.vocab_size if shape.merge_count is None else shape.merge_count
    process = process_bytes(_TENSORS_A_BLOCK * shape.block_count)
    return process + tokenizer_bytes(shape.vocab_size, merges) + batch_bytes(shape.layer_elements // 3, ubatch)


def _compute_bytes(shape: Shape, cells: int, ubatch: int, *, quantized: bool, flash_attention: bool) -> int:
    """The larger of two moments: all logits of a micro-batch at the end, or the widest layer with its attention.

    Flash attention keeps a 16-bit mask; without it every head keeps a 32-bit row of scores over all cells.
    """
    width = shape.embedding_length
    logits = shape.vocab_size + (3 if quantized else 2) * width + min(shape.latent_elements, _MOST_LATENT)
    if not shape.layers:
        return 4 * ubatch * max(logits, shape.layer_elements)
    if flash_attention:
        layer_bytes = 2 * ubatch * cells + 4 * ubatch * max(shape.layer_elements, _latent_layer_elements(shape))
    else:
        cached = max(layer.key_elements + layer.value_elements for layer in shape.layers)
        scratch = 3 * width + 2 * shape.query_elements + cached
        layer_bytes = 4 * ubatch * (cells * (shape.head_count + 1) + scratch)
    return max(4 * ubatch * logits, layer_bytes)


def _latent_layer_elements(shape: Shape) -> int:
    """Latent attention: queries compressed and whole, the same of what they find (rank, and 5/8 of it for heads)."""
    if not shape.latent_elements:
        return 0
    return shape.query_elements + shape.latent_elements * 13 // 16 + 4 * shape.embedding_length
