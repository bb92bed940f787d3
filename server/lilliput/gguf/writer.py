"""Write a GGUF header: what llama.cpp needs to see of a file whose tensor data nobody reads, or that follows.

Source of the layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

from lilliput.gguf.header import Tensor
from lilliput.gguf.types import GgmlType

ALIGNMENT = 32
_VERSION = 3
_U32, _I32, _F32, _BOOL, _TEXT, _ARRAY, _U64 = 4, 5, 6, 7, 8, 9, 10


def u32(value: int) -> bytes:
    """An unsigned 32-bit metadata value with its type, as it stands in the file."""
    return struct.pack("<II", _U32, value)


def f32(value: float) -> bytes:
    """A 32-bit floating-point metadata value."""
    return struct.pack("<If", _F32, value)


def truth(value: bool) -> bytes:
    """A boolean metadata value."""
    return struct.pack("<IB", _BOOL, value)


def text(value: str) -> bytes:
    """A text metadata value."""
    return struct.pack("<I", _TEXT) + _string(value)


def u32_array(values: Sequence[int]) -> bytes:
    """An array of unsigned 32-bit numbers."""
    return struct.pack(f"<IIQ{len(values)}I", _ARRAY, _U32, len(values), *values)


def text_array(values: Sequence[str]) -> bytes:
    """An array of texts."""
    return struct.pack("<IIQ", _ARRAY, _TEXT, len(values)) + b"".join(map(_string, values))


def place_tensors(described: Iterable[tuple[str, tuple[int, ...], GgmlType]]) -> tuple[Tensor, ...]:
    """Tensors of (name, shape with the row length first, type), laid out one after the other at the alignment."""
    tensors, offset = [], 0
    for name, shape, kind in described:
        tensor = Tensor(name, shape, kind, offset)
        tensors.append(tensor)
        offset += -(-tensor.size_bytes // ALIGNMENT) * ALIGNMENT
    return tuple(tensors)


def encode_header(metadata: Mapping[str, bytes], tensors: Sequence[Tensor]) -> bytes:
    """A whole header up to where tensor data begins; ``metadata`` maps keys to typed values in the file's encoding."""
    parts = [b"GGUF", struct.pack("<IQQ", _VERSION, len(tensors), len(metadata))]
    parts += [_string(key) + value for key, value in metadata.items()]
    for tensor in tensors:
        parts.append(_string(tensor.name))
        layout = f"<I{len(tensor.shape)}QIQ"
        parts.append(struct.pack(layout, len(tensor.shape), *tensor.shape, tensor.type.type_id, tensor.offset_bytes))
    content = b"".join(parts)
    return content + bytes(-len(content) % ALIGNMENT)


def _string(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw
