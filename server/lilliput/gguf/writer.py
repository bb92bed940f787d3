"""Write a GGUF header: what llama.cpp needs to see of a file whose tensor data nobody reads, or that follows.

Source of the layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

from lilliput.gguf.header import Scalar, Tensor
from lilliput.gguf.types import GgmlType

ALIGNMENT = 32
_VERSION = 3
_CODES = {
    "uint8": (0, "B"),
    "int8": (1, "b"),
    "uint16": (2, "H"),
    "int16": (3, "h"),
    "uint32": (4, "I"),
    "int32": (5, "i"),
    "float32": (6, "f"),
    "bool": (7, "?"),
    "uint64": (10, "Q"),
    "int64": (11, "q"),
    "float64": (12, "d"),
}
_TEXT, _ARRAY = 8, 9


def encode_value(value: Scalar | Sequence[Scalar], kind: str) -> bytes:
    """A metadata value with its type as it stands in a file; ``kind`` as in ``Header.types`` (``"uint32[]"``, …)."""
    if not kind.endswith("[]"):
        return struct.pack("<I", _code(kind)) + _bare(value, kind)
    assert isinstance(value, Sequence)
    element = kind.removesuffix("[]")
    elements = b"".join(_bare(one, element) for one in value)
    return struct.pack("<IIQ", _ARRAY, _code(element), len(value)) + elements


def u32(value: int) -> bytes:
    """An unsigned 32-bit metadata value."""
    return encode_value(value, "uint32")


def f32(value: float) -> bytes:
    """A 32-bit floating-point metadata value."""
    return encode_value(value, "float32")


def truth(value: bool) -> bytes:
    """A boolean metadata value."""
    return encode_value(value, "bool")


def text(value: str) -> bytes:
    """A text metadata value."""
    return encode_value(value, "text")


def u32_array(values: Sequence[int]) -> bytes:
    """An array of unsigned 32-bit numbers."""
    return encode_value(values, "uint32[]")


def text_array(values: Sequence[str]) -> bytes:
    """An array of texts."""
    return encode_value(values, "text[]")


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


def _code(kind: str) -> int:
    return _TEXT if kind == "text" else _CODES[kind][0]


def _bare(value: object, kind: str) -> bytes:
    return _string(str(value)) if kind == "text" else struct.pack(f"<{_CODES[kind][1]}", value)


def _string(value: str) -> bytes:
    raw = value.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(raw)) + raw
