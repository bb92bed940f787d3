"""Files whose list of tensors is wrong, or whose weights are."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from tests.support.hostile.document import ALIGNMENT, F16, F32, Document, Piece

Case = tuple[str, bytes]
_CHANGED = ("token_embd.weight", "blk.0.attn_norm.weight", "blk.0.attn_k.weight", "blk.1.ffn_down.weight")
_TYPES = {
    "F32": 0,
    "F16": 1,
    "Q4_0": 2,
    "Q4_2": 4,
    "Q2_K": 10,
    "Q6_K": 14,
    "IQ1_S": 19,
    "I8": 24,
    "F64": 28,
    "none": 77,
}


def tensor_faults(document: Document) -> Iterator[Case]:
    """All of them, each with a name."""
    for name, changed in (*_lists(document), *_changed(document), *_weights(document)):
        yield name, changed.encode()


def _lists(document: Document) -> Iterator[tuple[str, Document]]:
    yield "no tensors", replace(document, pieces=())
    yield "tensors in reverse", replace(document, pieces=document.pieces[::-1])
    for piece in document.pieces:
        rest = tuple(one for one in document.pieces if one is not piece)
        yield f"without {piece.name.decode()}", replace(document, pieces=rest)
    first = document.pieces[1]
    yield "a tensor twice", replace(document, pieces=(*document.pieces, first))
    extra = replace(document.pieces[-1], name=b"blk.9.no_such.weight", offset=_end(document))
    yield "a tensor nobody knows", replace(document, pieces=(*document.pieces, extra))
    far = replace(extra, name=b"blk.4294967295.attn_q.weight")
    yield "a tensor of a far layer", replace(document, pieces=(*document.pieces, far))
    yield "all at one place", replace(document, pieces=tuple(replace(one, offset=0) for one in document.pieces))


def _changed(document: Document) -> Iterator[tuple[str, Document]]:
    for name in _CHANGED:
        piece = document.piece(name)
        for what, other in _described(piece):
            yield f"{name} {what}", document.with_piece(other, name=piece.name)
        for kind, type_id in _TYPES.items():
            if type_id != piece.type_id:
                yield f"{name} as {kind}", document.with_piece(replace(piece, type_id=type_id))


def _described(piece: Piece) -> Iterator[tuple[str, Piece]]:
    shape = piece.shape
    yield "turned round", replace(piece, shape=shape[::-1] if len(shape) > 1 else (1, *shape))
    yield "with more rows", replace(piece, shape=(*shape[:-1], shape[-1] + 32))
    yield "with fewer rows", replace(piece, shape=(*shape[:-1], shape[-1] - 32))
    yield "without a size", replace(piece, shape=(*shape[:-1], 0))
    yield "in four dimensions", replace(piece, shape=(*shape, 1, 1)[:4])
    yield "in no dimension", replace(piece, shape=())
    yield "as large as a world", replace(piece, shape=(1 << 20, 1 << 20))
    yield "misplaced", replace(piece, offset=piece.offset + 1)
    yield "over its neighbour", replace(piece, offset=max(0, piece.offset - ALIGNMENT))
    yield "behind the end", replace(piece, offset=1 << 40)
    yield "nowhere", replace(piece, offset=(1 << 64) - ALIGNMENT)
    yield "called with a zero", replace(piece, name=piece.name + b"\0x")
    yield "called without UTF-8", replace(piece, name=b"\xff\xfe")
    yield "with a long name", replace(piece, name=piece.name + b"x" * 100)
    yield "without a name", replace(piece, name=b"")


def _weights(document: Document) -> Iterator[tuple[str, Document]]:
    """Weights that are no numbers, infinite, nothing, or noise; all of them together at last."""
    for what in ("nan", "inf", "zero", "noise"):
        for name in ("token_embd.weight", "blk.0.attn_norm.weight", "blk.1.attn_v.weight", "output.weight"):
            piece = document.piece(name)
            yield f"{name} of {what}", document.with_piece(replace(piece, data=_filled(piece, what)))
        every = tuple(replace(one, data=_filled(one, what)) for one in document.pieces)
        yield f"all weights of {what}", replace(document, pieces=every)


def _filled(piece: Piece, what: str) -> bytes:
    size = len(piece.data)
    if what == "zero":
        return bytes(size)
    if what == "noise":
        return np.random.default_rng(2).integers(0, 256, size, np.uint8).tobytes()
    value = float(what)
    if piece.type_id == F32:
        return np.full(size // 4, value, np.float32).tobytes()
    half = struct.pack("<e", value)
    if piece.type_id == F16:
        return half * (size // 2)
    blocks = -(-size // 34)
    return ((half + b"\1" * 32) * blocks)[:size]


def _end(document: Document) -> int:
    last = document.pieces[-1]
    return last.offset + len(last.data)
