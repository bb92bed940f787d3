"""Bytes of GGUF headers, sound or not, built field by field."""

from __future__ import annotations

import struct
from collections.abc import Sequence

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
_CODES = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def scalar(kind: int, value: float) -> bytes:
    return struct.pack(f"<{_CODES[kind]}", value)


def entry(key: str | bytes, kind: int, value: float | str | bytes) -> bytes:
    """One metadata entry; bytes as a value are taken as they are."""
    if isinstance(value, str):
        payload = text(value)
    elif isinstance(value, bytes):
        payload = value
    else:
        payload = scalar(kind, value)
    return text(key) + struct.pack("<I", kind) + payload


def array(key: str, kind: int, values: Sequence[float] | Sequence[str]) -> bytes:
    elements = b"".join(text(one) if isinstance(one, str) else scalar(kind, one) for one in values)
    return text(key) + struct.pack("<IIQ", ARRAY, kind, len(values)) + elements


def tensor(name: str | bytes, shape: Sequence[int], type_id: int, offset: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, type_id, offset)


def header(
    entries: Sequence[bytes] = (),
    tensors: Sequence[bytes] = (),
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    tensor_count: int | None = None,
    metadata_count: int | None = None,
) -> bytes:
    counts = (
        len(tensors) if tensor_count is None else tensor_count,
        len(entries) if metadata_count is None else metadata_count,
    )
    return magic + struct.pack("<IQQ", version, *counts) + b"".join(entries) + b"".join(tensors)


def whole(head: bytes, data_bytes: int, alignment: int = 32) -> bytes:
    """The header, padding, and that much tensor data."""
    return head + bytes(-len(head) % alignment) + bytes(data_bytes)


class Recorder:
    """A source that notes what was read of it; ``size_bytes`` may be told wrongly or not at all."""

    def __init__(self, data: bytes, *, size_bytes: int | None = None) -> None:
        self.data = data
        self.size_bytes = size_bytes
        self.reads: list[tuple[int, int]] = []

    def read(self, offset: int, size: int) -> bytes:
        self.reads.append((offset, size))
        return self.data[offset : offset + size]

    @property
    def total_bytes(self) -> int:
        """Bytes asked for in all reads."""
        return sum(size for _, size in self.reads)
