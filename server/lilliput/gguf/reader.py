"""Read a GGUF header within bounds: whatever the bytes are, the answer is a ``Header`` or a ``BadFile``.

The layout, little-endian: magic, version, tensor count, metadata count; then each metadata entry as key, value type,
value; then each tensor as name, dimension count, dimensions, type, offset; then, at the next multiple of the alignment,
the tensor data, which is never read. A string is a 64-bit length and its bytes; an array is an element type, a 64-bit
count and its elements.
Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from types import MappingProxyType
from typing import NoReturn

from lilliput.gguf.cursor import Cursor
from lilliput.gguf.header import Header, MetadataValue, Scalar, Skipped, Tensor
from lilliput.gguf.source import ByteSource
from lilliput.gguf.types import GGML_TYPES, REMOVED_TYPES, GgmlType
from lilliput.units import MIB

_SCALARS = MappingProxyType(
    {
        0: ("uint8", struct.Struct("<B")),
        1: ("int8", struct.Struct("<b")),
        2: ("uint16", struct.Struct("<H")),
        3: ("int16", struct.Struct("<h")),
        4: ("uint32", struct.Struct("<I")),
        5: ("int32", struct.Struct("<i")),
        6: ("float32", struct.Struct("<f")),
        7: ("bool", struct.Struct("<B")),
        10: ("uint64", struct.Struct("<Q")),
        11: ("int64", struct.Struct("<q")),
        12: ("float64", struct.Struct("<d")),
    }
)
_BOOL, _STRING, _ARRAY = 7, 8, 9
_ALIGNMENT_KEY = "general.alignment"
_DEFAULT_ALIGNMENT = 32
_MOST_DIMENSIONS = 4
_MOST_ELEMENTS = 1 << 62
_TENSOR_COUNT_AND_METADATA_COUNT = struct.Struct("<QQ")

_OTHER_FORMATS = (
    (b"lmgg", "an old GGML file, older than GGUF"),
    (b"fmgg", "an old GGML file, older than GGUF"),
    (b"tjgg", "an old GGML file, older than GGUF"),
    (b"vers", "a Git LFS pointer, not the file it points to"),
    (b"PK\x03\x04", "a zip archive or a PyTorch checkpoint"),
    (b"<!DO", "a web page"),
    (b"<!do", "a web page"),
    (b"<htm", "a web page"),
)


@dataclass(frozen=True, slots=True)
class HeaderLimits:
    """What a header may cost; real ones stay far below.

    The largest seen have 20 MB, 100 entries, 3,000 tensors and 100 kB of kept text.
    """

    header_bytes: int = 64 * MIB
    metadata_count: int = 4096
    tensor_count: int = 65_536
    key_bytes: int = 65_535
    tensor_name_bytes: int = 512
    text_bytes: int = 1 * MIB
    """A longer text is passed over, as a long array is."""
    array_length: int = 512
    """A longer array is passed over."""
    kept_bytes: int = 16 * MIB
    """Everything kept together."""


DEFAULT_LIMITS = HeaderLimits()


def read_header(source: ByteSource, limits: HeaderLimits = DEFAULT_LIMITS, *, name: str = "the file") -> Header:
    """The header of a GGUF file (version 2 or 3, little-endian); ``name`` is how errors call it.

    Fetches forward in chunks of 1 to 4 MiB, never more than ``limits.header_bytes``, and stops after the tensor list.
    Raises ``BadFile`` naming the fault and its place; what the source itself raises passes through.
    """
    return _Reader(source, limits, name).read()


class _Reader:
    """One reading of one header."""

    def __init__(self, source: ByteSource, limits: HeaderLimits, name: str) -> None:
        self._size_bytes = source.size_bytes
        self._limits = limits
        self._cursor = Cursor(source, name=name, cap_bytes=limits.header_bytes)
        self._kept_bytes = 0
        self._types: dict[str, str] = {}

    def read(self) -> Header:
        """The whole header, checked."""
        version = self._read_version()
        counts = self._cursor.unpack(_TENSOR_COUNT_AND_METADATA_COUNT, "the counts of tensors and metadata entries")
        tensor_count, metadata_count = int(counts[0]), int(counts[1])
        self._check_count("tensors", tensor_count, self._limits.tensor_count)
        self._check_count("metadata entries", metadata_count, self._limits.metadata_count)
        metadata = self._read_metadata(metadata_count)
        alignment = self._alignment(metadata)
        tensors = self._read_tensors(tensor_count, alignment)
        data_offset = -(-self._cursor.offset // alignment) * alignment
        self._check_extents(tensors, data_offset)
        types = MappingProxyType(self._types)
        return Header(version, MappingProxyType(metadata), tensors, alignment, data_offset, types)

    def _read_version(self) -> int:
        magic = self._cursor.take(4, "the magic number")
        if magic != b"GGUF":
            for start, meaning in _OTHER_FORMATS:
                if magic == start:
                    self._cursor.fail(f"it is {meaning}", at=0)
            self._cursor.fail(f"it begins with {magic!r} instead of b'GGUF'", at=0)
        version = self._cursor.u32("the version")
        if version not in (2, 3):
            self._refuse_version(version)
        return version

    def _refuse_version(self, version: int) -> NoReturn:
        if version & 0xFFFF == 0 and version:
            self._cursor.fail("it is big-endian", at=4, hint="take a little-endian file: big-endian ones are for s390x")
        if version == 1:
            self._cursor.fail("version 1 is obsolete", at=4, hint="take a newer file of the same model")
        self._cursor.fail(f"version {version} is unknown; 2 and 3 are read", at=4)

    def _check_count(self, things: str, count: int, most: int) -> None:
        if count > most:
            self._cursor.fail(f"it claims {count} {things}; at most {most} are read", at=8)

    def _keep(self, size: int) -> None:
        self._kept_bytes += size
        if self._kept_bytes > self._limits.kept_bytes:
            self._cursor.fail(f"its metadata and tensor names take more than {self._limits.kept_bytes} bytes")

    def _read_name(self, what: str, most_bytes: int) -> str:
        """A key or a tensor name: short, not empty, valid UTF-8."""
        at = self._cursor.offset
        length = self._cursor.u64(what)
        if not 0 < length <= most_bytes:
            self._cursor.fail(f"{what} has {length} bytes; 1 to {most_bytes} are read", at=at)
        self._keep(length + 64)
        try:
            return self._cursor.take(length, what).decode()
        except UnicodeDecodeError:
            self._cursor.fail(f"{what} is not UTF-8", at=at)

    def _read_metadata(self, count: int) -> dict[str, MetadataValue]:
        metadata: dict[str, MetadataValue] = {}
        for index in range(count):
            at = self._cursor.offset
            key = self._read_name(f"the key of metadata entry {index}", self._limits.key_bytes)
            if key in metadata:
                self._cursor.fail(f"the key {_shown(key)} comes twice", at=at)
            what = f"the value of {_shown(key)}"
            metadata[key], self._types[key] = self._read_value(self._cursor.u32(what), what)
        return metadata

    def _read_value(self, kind: int, what: str) -> tuple[MetadataValue, str]:
        """A value and the name of its type, as ``Header.types`` has it."""
        if kind == _ARRAY:
            return self._read_array(what)
        if kind == _STRING:
            return self._read_text(what), "text"
        if kind not in _SCALARS:
            self._cursor.fail(f"{what} has the unknown type {kind}", at=self._cursor.offset - 4)
        at = self._cursor.offset
        name, layout = _SCALARS[kind]
        value = self._cursor.unpack(layout, what)[0]
        self._keep(8)
        return (self._truth(value, what, at) if kind == _BOOL else value), name

    def _truth(self, value: int | float, what: str, at: int) -> bool:
        if value not in (0, 1):
            self._cursor.fail(f"{what} should be true or false but is the byte {value}", at=at)
        return bool(value)

    def _read_text(self, what: str) -> str | Skipped:
        length = self._cursor.u64(what)
        at = self._cursor.offset
        if length > self._limits.text_bytes:
            self._cursor.skip(length, what)
            return Skipped("text", length, at)
        self._keep(length + 64)
        return self._cursor.take(length, what).decode(errors="replace")

    def _read_array(self, what: str) -> tuple[tuple[Scalar, ...] | Skipped, str]:
        at = self._cursor.offset
        kind = self._cursor.u32(what)
        length = self._cursor.u64(what)
        if kind == _ARRAY:
            self._cursor.fail(f"{what} is an array of arrays, which no model file has", at=at)
        if kind == _STRING:
            return self._read_text_array(length, what), "text[]"
        if kind not in _SCALARS:
            self._cursor.fail(f"{what} is an array of the unknown type {kind}", at=at)
        element_type, layout = _SCALARS[kind]
        begin = self._cursor.offset
        if length > self._limits.array_length:
            self._cursor.skip(length * layout.size, what)
            return Skipped(element_type, length, begin), f"{element_type}[]"
        self._keep(length * 32)
        values = self._cursor.unpack(struct.Struct(f"<{length}{layout.format[1:]}"), what)
        kept = tuple(self._truth(one, what, begin) for one in values) if kind == _BOOL else values
        return kept, f"{element_type}[]"

    def _read_text_array(self, length: int, what: str) -> tuple[Scalar, ...] | Skipped:
        begin = self._cursor.offset
        if length > self._limits.array_length:
            self._cursor.skip_strings(length, what)
            return Skipped("string", length, begin)
        texts: list[str] = []
        for _ in range(length):
            text = self._read_text(what)
            if isinstance(text, Skipped):
                self._cursor.fail(f"{what} has an element of {text.length} bytes", at=text.offset_bytes)
            texts.append(text)
        return tuple(texts)

    def _alignment(self, metadata: dict[str, MetadataValue]) -> int:
        value = metadata.get(_ALIGNMENT_KEY, _DEFAULT_ALIGNMENT)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 31 or value & (value - 1):
            self._cursor.fail(f"{_ALIGNMENT_KEY} is {_shown(value)} but must be a power of two")
        return value

    def _read_tensors(self, count: int, alignment: int) -> tuple[Tensor, ...]:
        tensors: dict[str, Tensor] = {}
        for index in range(count):
            at = self._cursor.offset
            name = self._read_name(f"the name of tensor {index}", self._limits.tensor_name_bytes)
            if name in tensors:
                self._cursor.fail(f"the tensor {_shown(name)} comes twice", at=at)
            tensors[name] = self._read_tensor(name, alignment)
        return tuple(tensors.values())

    def _read_tensor(self, name: str, alignment: int) -> Tensor:
        what = f"the description of tensor {_shown(name)}"
        at = self._cursor.offset
        dimensions = self._cursor.u32(what)
        if dimensions > _MOST_DIMENSIONS:
            self._cursor.fail(
                f"tensor {_shown(name)} has {dimensions} dimensions; at most {_MOST_DIMENSIONS} exist", at=at
            )
        *shape, type_id, offset = self._cursor.unpack(_TENSOR_LAYOUTS[dimensions], what)
        tensor = Tensor(name, tuple(map(int, shape)), self._type(name, int(type_id), at), int(offset))
        elements = tensor.element_count
        if not 0 < elements <= _MOST_ELEMENTS:
            self._cursor.fail(f"tensor {_shown(name)} has the impossible shape {tensor.shape}", at=at)
        if (tensor.shape[0] if tensor.shape else 1) % tensor.type.block_elements:
            blocks = f"blocks of {tensor.type.block_elements} elements ({tensor.type.name})"
            self._cursor.fail(
                f"rows of tensor {_shown(name)}, shape {tensor.shape}, do not divide into {blocks}", at=at
            )
        if tensor.offset_bytes % alignment:
            self._cursor.fail(f"tensor {_shown(name)} is at offset {offset}, not a multiple of {alignment}", at=at)
        return tensor

    def _type(self, name: str, type_id: int, at: int) -> GgmlType:
        if type_id not in GGML_TYPES:
            self._refuse_type(name, type_id, at)
        return GGML_TYPES[type_id]

    def _refuse_type(self, name: str, type_id: int, at: int) -> NoReturn:
        if type_id in REMOVED_TYPES:
            what = f"the type {REMOVED_TYPES[type_id]} ({type_id}), which llama.cpp no longer reads"
            hint = "take another quantization; Q4_0 replaces Q4_0_4_4 and its like"
        else:
            what = f"the unknown type {type_id}"
            hint = "the file needs a newer or a modified llama.cpp; take another quantization"
        self._cursor.fail(f"tensor {_shown(name)} has {what}", at=at, hint=hint)

    def _check_extents(self, tensors: tuple[Tensor, ...], data_offset: int) -> None:
        """No tensor overlaps another, and all lie inside the file."""
        end, last = 0, ""
        for tensor in sorted(tensors, key=_offset):
            if tensor.offset_bytes < end:
                self._cursor.fail(
                    f"the tensors {_shown(last)} and {_shown(tensor.name)} overlap",
                    at=data_offset + tensor.offset_bytes,
                )
            end, last = tensor.offset_bytes + tensor.size_bytes, tensor.name
        if self._size_bytes is not None and tensors and data_offset + end > self._size_bytes:
            cut_off = (
                f"tensor {_shown(last)} should end at byte {data_offset + end} but the file has {self._size_bytes}"
            )
            self._cursor.fail(cut_off, at=self._size_bytes, hint="the file is cut off: download it again")


_TENSOR_LAYOUTS = tuple(struct.Struct(f"<{dimensions}QIQ") for dimensions in range(_MOST_DIMENSIONS + 1))


def _offset(tensor: Tensor) -> int:
    return tensor.offset_bytes


def _shown(value: object) -> str:
    """A value from the file as an error may print it: quoted, without control characters, short."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…{text[-1]}"
