"""Reading vectors: base64 of little-endian 32-bit floats."""

from __future__ import annotations

import base64
import binascii
import struct

import msgspec

from lilliput_client.errors import ProtocolError
from lilliput_client.values import Embeddings, Usage
from lilliput_client.wire import decoder


class _Row(msgspec.Struct):
    embedding: str
    index: int = 0


class _Body(msgspec.Struct):
    data: tuple[_Row, ...] = ()
    model: str = ""
    usage: Usage | None = None


_decode = decoder(_Body)


def embeddings(content: bytes) -> Embeddings:
    """The vectors in a response body; raises ProtocolError for what are none."""
    body = _decode(content)
    rows = sorted(body.data, key=lambda row: row.index)
    return Embeddings(tuple(_numbers(row.embedding) for row in rows), body.model, body.usage)


def _numbers(packed: str) -> tuple[float, ...]:
    try:
        raw = base64.b64decode(packed, validate=True)
        return struct.unpack(f"<{len(raw) // 4}f", raw)
    except (binascii.Error, struct.error) as error:
        raise ProtocolError(f"an embedding cannot be read: {error}") from error
