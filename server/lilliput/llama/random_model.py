"""Models of random weights in any size and type, written fast: what speed is measured with where no real file is.

The blocks of a quantized tensor are random bytes under scales that keep every weight near the size that trained
weights have, so that nothing overflows and no kernel meets subnormal numbers. One tile of blocks is made for a type
and repeated. Layouts of blocks: ggml's ``ggml-common.h``.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from lilliput.errors import DiskFull, InvalidRequest
from lilliput.gguf import GgmlType, Tensor
from lilliput.gguf.writer import ALIGNMENT, encode_header, f32, place_tensors, text, u32
from lilliput.units import MIB, format_bytes

Bytes = npt.NDArray[np.uint8]

_TILE_BLOCKS_BYTES = 2 * MIB
_SPARE_DISK_BYTES = 256 * MIB
_WEIGHT = 0.02
"""Typical size of a weight."""


@dataclass(frozen=True, slots=True)
class RandomShape:
    """A model of the ``llama`` architecture; widths in elements.

    ``kind`` is the type of all matrices, ``kinds`` of some by the part of the name between block and ``.weight``
    (``"ffn_down"``, ``"token_embd"``, ``"output"``). ``experts`` 0 makes a dense model; ``tied`` leaves the output
    matrix to the token embedding.
    """

    layers: int
    width: int
    feed_forward: int
    heads: int
    kv_heads: int
    vocabulary: int
    kind: GgmlType
    kinds: Mapping[str, GgmlType] = field(default_factory=lambda: MappingProxyType({}))
    experts: int = 0
    experts_used: int = 0
    tied: bool = False
    context_tokens: int = 4096


def write_random_model(path: Path, shape: RandomShape, *, seed: int = 0) -> int:
    """Write the file and return its size in bytes.

    Raises InvalidRequest for a type that cannot be made or does not divide a row, DiskFull when there is no room.
    What was written before an error is removed.
    """
    tensors = place_tensors(_tensors(shape))
    header = encode_header(_metadata(shape), tensors)
    end = tensors[-1].offset_bytes + tensors[-1].size_bytes
    size = len(header) + -(-end // ALIGNMENT) * ALIGNMENT
    full = DiskFull(
        f"{path.parent} has no room for a generated model of {format_bytes(size)}", hint="free some space there"
    )
    if shutil.disk_usage(path.parent).free < size + _SPARE_DISK_BYTES:
        raise full
    random = np.random.default_rng(seed)
    tiles = {tensor.type: _tile(tensor.type, random) for tensor in tensors}
    try:
        with path.open("wb") as file:
            file.write(header)
            for tensor in tensors:
                for piece in _pieces(tensor, tiles[tensor.type]):
                    file.write(piece)
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise full from error
        raise
    return size


def _pieces(tensor: Tensor, tile: Bytes) -> Iterator[memoryview | bytes]:
    """A tensor's data and padding; norms are all ones."""
    if tensor.type is GgmlType.F32 and len(tensor.shape) == 1:
        yield np.ones(tensor.element_count, np.float32).tobytes()
    else:
        whole, rest = divmod(tensor.size_bytes, tile.size)
        for _ in range(whole):
            yield tile.data
        yield tile[:rest].data
    yield bytes(-tensor.size_bytes % ALIGNMENT)


def _metadata(shape: RandomShape) -> dict[str, bytes]:
    metadata = {
        "general.architecture": text("llama"),
        "general.name": text("random"),
        "llama.block_count": u32(shape.layers),
        "llama.context_length": u32(shape.context_tokens),
        "llama.embedding_length": u32(shape.width),
        "llama.feed_forward_length": u32(shape.feed_forward),
        "llama.attention.head_count": u32(shape.heads),
        "llama.attention.head_count_kv": u32(shape.kv_heads),
        "llama.attention.layer_norm_rms_epsilon": f32(1e-5),
        "llama.rope.dimension_count": u32(shape.width // shape.heads),
        "llama.vocab_size": u32(shape.vocabulary),
        "tokenizer.ggml.model": text("no_vocab"),
    }
    if shape.experts:
        metadata["llama.expert_count"] = u32(shape.experts)
        metadata["llama.expert_used_count"] = u32(shape.experts_used)
    return metadata


def _tensors(shape: RandomShape) -> Iterator[tuple[str, tuple[int, ...], GgmlType]]:
    width, inner, cached = shape.width, shape.feed_forward, shape.width // shape.heads * shape.kv_heads

    def matrix(prefix: str, name: str, *dimensions: int) -> tuple[str, tuple[int, ...], GgmlType]:
        kind = shape.kinds.get(name, shape.kind)
        if dimensions[0] % kind.block_elements:
            raise InvalidRequest(
                f"rows of {dimensions[0]} cannot be {kind.name}", hint=f"use a multiple of {kind.block_elements}"
            )
        return f"{prefix}{name}.weight", dimensions, kind

    yield matrix("", "token_embd", width, shape.vocabulary)
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        yield f"{block}attn_norm.weight", (width,), GgmlType.F32
        yield matrix(block, "attn_q", width, width)
        yield matrix(block, "attn_k", width, cached)
        yield matrix(block, "attn_v", width, cached)
        yield matrix(block, "attn_output", width, width)
        yield f"{block}ffn_norm.weight", (width,), GgmlType.F32
        if shape.experts:
            yield f"{block}ffn_gate_inp.weight", (width, shape.experts), GgmlType.F32
            yield matrix(block, "ffn_gate_exps", width, inner, shape.experts)
            yield matrix(block, "ffn_up_exps", width, inner, shape.experts)
            yield matrix(block, "ffn_down_exps", inner, width, shape.experts)
        else:
            yield matrix(block, "ffn_gate", width, inner)
            yield matrix(block, "ffn_up", width, inner)
            yield matrix(block, "ffn_down", inner, width)
    yield "output_norm.weight", (width,), GgmlType.F32
    if not shape.tied:
        yield matrix("", "output", width, shape.vocabulary)


@dataclass(frozen=True, slots=True)
class _Scales:
    """Where a block keeps its half-precision factor and minimum, and what they are for weights of the usual size.

    ``spread`` is how far a stored number of the block is from the middle of its range, with inner scales at theirs;
    ``middle`` is that middle, which the minimum takes off (negative where the block adds its minimum).
    """

    factor_at: int
    spread: float
    minimum_at: int | None = None
    middle: float = 0.0


_SCALES = {
    GgmlType.Q4_0: _Scales(0, 4.6),
    GgmlType.Q4_1: _Scales(0, 4.6, 2, -7.5),
    GgmlType.Q5_0: _Scales(0, 9.2),
    GgmlType.Q5_1: _Scales(0, 9.2, 2, -15.5),
    GgmlType.Q8_0: _Scales(0, 74.0),
    GgmlType.Q2_K: _Scales(80, 8.4, 82, 1.5),
    GgmlType.Q3_K: _Scales(108, 42.0),
    GgmlType.Q4_K: _Scales(0, 145.0, 2, 7.5),
    GgmlType.Q5_K: _Scales(0, 290.0, 2, 15.5),
    GgmlType.Q6_K: _Scales(208, 1365.0),
    GgmlType.IQ4_NL: _Scales(0, 70.0),
    GgmlType.IQ4_XS: _Scales(0, 1300.0),
}

_PLAIN: dict[GgmlType, Callable[[npt.NDArray[np.float32]], Bytes]] = {
    GgmlType.F32: lambda numbers: numbers.view(np.uint8),
    GgmlType.F16: lambda numbers: numbers.astype(np.float16).view(np.uint8),
    GgmlType.BF16: lambda numbers: (numbers.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8),
}

RANDOM_KINDS = frozenset({*_SCALES, *_PLAIN, GgmlType.MXFP4})
"""The types a random model can have."""

_MXFP4_EXPONENT = 120
"""2 ** (120 - 127), times stored numbers up to 6."""


def _tile(kind: GgmlType, random: np.random.Generator) -> Bytes:
    """Some blocks of the type as flat bytes."""
    if kind in _PLAIN:
        numbers = random.standard_normal(_TILE_BLOCKS_BYTES // 4, np.float32) * np.float32(_WEIGHT)
        return _PLAIN[kind](numbers)
    blocks = _TILE_BLOCKS_BYTES // kind.block_bytes
    tile = random.integers(0, 256, (blocks, kind.block_bytes), np.uint8)
    if kind is GgmlType.MXFP4:
        tile[:, 0] = _MXFP4_EXPONENT
    elif kind in _SCALES:
        scales = _SCALES[kind]
        factor = _WEIGHT / scales.spread
        tile[:, scales.factor_at : scales.factor_at + 2] = _half(factor)
        if scales.minimum_at is not None:
            tile[:, scales.minimum_at : scales.minimum_at + 2] = _half(factor * scales.middle)
    else:
        raise InvalidRequest(f"no random model can be made of {kind.name}", hint="choose a common type")
    return tile.reshape(-1)


def _half(value: float) -> Bytes:
    return np.array([value], np.float16).view(np.uint8)
