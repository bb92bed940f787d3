"""Files that are wrong as bytes: cut off, flipped, of another format, with absurd lengths and counts."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.hostile.document import Document
from tests.unit.gguf import build

Case = tuple[str, bytes]
_HUGE = (0, 1 << 31, (1 << 64) - 1)
_ATTACKED = (b"token_embd.weight", b"blk.0.attn_norm.weight", b"blk.1.ffn_down.weight", b"output.weight")


@dataclass(frozen=True, slots=True)
class _Field:
    """A length, count, type or offset in the header."""

    name: str
    at: int
    size: int


def byte_faults(document: Document) -> Iterator[Case]:
    """All of them, each with a name."""
    data = document.encode()
    yield from _other_formats(data)
    yield from _truncations(document, data)
    for field in _fields(document):
        own = int.from_bytes(data[field.at : field.at + field.size], "little")
        most = (1 << 8 * field.size) - 1
        for value in dict.fromkeys((own + 1, max(0, own - 1), *(huge & most for huge in _HUGE))):
            if value != own:
                yield f"{field.name} is {value}", _put(data, field.at, value.to_bytes(field.size, "little"))
    yield from _flips(document, data)


def _put(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def _other_formats(data: bytes) -> Iterator[Case]:
    draw = random.Random(3)
    yield "nothing", b""
    yield "only the magic", b"GGUF"
    yield "zeros", bytes(1 << 20)
    yield "a web page", b"<!DOCTYPE html><html><body>not found</body></html>"
    yield "a Git LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    yield "safetensors", struct.pack("<Q", 40) + b'{"a":{"dtype":"F32","shape":[1],"data_of' + bytes(64)
    yield "a zip archive", b"PK\x03\x04" + bytes(200)
    yield "big-endian", b"GGUF" + struct.pack(">IQQ", 3, 1, 1) + data[24:]
    for version in (0, 1, 2, 4, (1 << 32) - 1):
        yield f"version {version}", _put(data, 4, struct.pack("<I", version))
    yield "twice over", data + data
    yield "with a tail", data + b"tail" * 1000
    yield "with a head", b"head" + data
    for number in range(12):
        yield f"random bytes {number}", b"GGUF" + struct.pack("<IQQ", 3, 5, 5) + draw.randbytes(4000)
    many = build.header([build.entry(f"k{number}", build.U8, 1) for number in range(5000)])
    yield "5,000 entries", many + bytes(64)
    tensors = [build.tensor(f"t{number}", [32], 0, 128 * number) for number in range(20_000)]
    yield "20,000 tensors", build.whole(build.header([], tensors), 128 * 20_000)


def _truncations(document: Document, data: bytes) -> Iterator[Case]:
    """At each border of the structure, and inside each part."""
    at = 24
    cuts = [4, 8, 16, 20, 24]
    for size in (*(len(one.encode()) for one in document.entries), *(len(one.encode()) for one in document.pieces)):
        cuts += [at + 8, at + size // 2, at + size]
        at += size
    start = len(document.header())
    cuts += [start - 1, start]
    for piece in document.pieces:
        cuts += [start + piece.offset + 1, start + piece.offset + len(piece.data) // 2]
    cuts.append(len(data) - 1)  # of the last tensor's own: it fills its padding
    for cut in sorted(set(cuts)):
        yield f"cut at {cut}", data[:cut]


def _fields(document: Document) -> Iterator[_Field]:
    yield _Field("the count of tensors", 8, 8)
    yield _Field("the count of entries", 16, 8)
    at = 24
    for entry in document.entries:
        name, kind_at = entry.key.decode(), at + 8 + len(entry.key)
        yield _Field(f"the length of the key {name}", at, 8)
        yield _Field(f"the type of {name}", kind_at, 4)
        if entry.kind == build.STRING:
            yield _Field(f"the length of {name}", kind_at + 4, 8)
        elif entry.kind == build.ARRAY:
            yield _Field(f"the element type of {name}", kind_at + 4, 4)
            yield _Field(f"the count of {name}", kind_at + 8, 8)
        at += len(entry.encode())
    for piece in document.pieces:
        if piece.name in _ATTACKED:
            name, rest = piece.name.decode(), at + 8 + len(piece.name)
            yield _Field(f"the length of the name {name}", at, 8)
            yield _Field(f"the dimensions of {name}", rest, 4)
            for number in range(len(piece.shape)):
                yield _Field(f"dimension {number} of {name}", rest + 4 + 8 * number, 8)
            after = rest + 4 + 8 * len(piece.shape)
            yield _Field(f"the type of {name}", after, 4)
            yield _Field(f"the offset of {name}", after + 4, 8)
        at += len(piece.encode())


def _flips(document: Document, data: bytes) -> Iterator[Case]:
    """One to four bytes of the header, the interesting parts of it more often; and many of the weights."""
    draw = random.Random(5)
    start = len(document.header())
    long = document.entry("tokenizer.ggml.tokens").encode()
    first, last = data.index(long), data.index(long) + len(long)
    plain = [at for at in range(start) if not first + 100 < at < last + 4 * 640 * 2]
    for number in range(80):
        flipped = bytearray(data)
        for _ in range(draw.randint(1, 4)):
            flipped[draw.choice(plain)] ^= 1 << draw.randrange(8)
        yield f"flipped bits of the header {number}", bytes(flipped)
    for number in range(12):
        flipped = bytearray(data)
        for _ in range(200):
            flipped[draw.randrange(start, len(data))] = draw.randrange(256)
        yield f"flipped weights {number}", bytes(flipped)
