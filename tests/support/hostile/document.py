"""A GGUF file taken apart, so that each part can be made wrong, and a small real model to begin with."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

import numpy as np
from tests.unit.gguf import build

ALIGNMENT = 32
F32, F16, Q8_0 = 0, 1, 8
_WIDTH, _INNER, _HEADS, _KV_HEADS, _LAYERS, _TOKENS = 64, 128, 4, 2, 2, 640
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6
TEMPLATE = (
    "{% for message in messages %}<s>{{ message.role }}: {{ message.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant: {% endif %}"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One metadata entry: ``value`` is what follows the type in the file."""

    key: bytes
    kind: int
    value: bytes

    def encode(self) -> bytes:
        """As it stands in a file."""
        return build.text(self.key) + struct.pack("<I", self.kind) + self.value


@dataclass(frozen=True, slots=True)
class Piece:
    """One tensor: its description and its data, padding included."""

    name: bytes
    shape: tuple[int, ...]
    type_id: int
    offset: int
    data: bytes

    def encode(self) -> bytes:
        """Its description as it stands in a file."""
        return build.tensor(self.name, self.shape, self.type_id, self.offset)


@dataclass(frozen=True, slots=True)
class Document:
    """A whole file."""

    entries: tuple[Entry, ...]
    pieces: tuple[Piece, ...]

    def encode(self) -> bytes:
        """The file."""
        return self.header() + b"".join(piece.data for piece in self.pieces)

    def header(self) -> bytes:
        """All before the tensor data, padding included."""
        parts = [entry.encode() for entry in self.entries], [piece.encode() for piece in self.pieces]
        return build.whole(build.header(*parts), 0, ALIGNMENT)

    def entry(self, key: str) -> Entry:
        """The entry of this key."""
        return next(entry for entry in self.entries if entry.key == key.encode())

    def piece(self, name: str) -> Piece:
        """The tensor of this name."""
        return next(piece for piece in self.pieces if piece.name == name.encode())

    def with_entry(self, entry: Entry) -> Document:
        """With this entry in the place of the one of its key, or after all others."""
        if all(one.key != entry.key for one in self.entries):
            return replace(self, entries=(*self.entries, entry))
        return replace(self, entries=tuple(entry if one.key == entry.key else one for one in self.entries))

    def without_entry(self, key: bytes) -> Document:
        """Without the entry of this key."""
        return replace(self, entries=tuple(one for one in self.entries if one.key != key))

    def with_piece(self, piece: Piece, *, name: bytes | None = None) -> Document:
        """With this tensor in the place of the one of its name, or of ``name``."""
        wanted = piece.name if name is None else name
        return replace(self, pieces=tuple(piece if one.name == wanted else one for one in self.pieces))


def scalar(key: str, kind: int, value: float) -> Entry:
    """A number."""
    return Entry(key.encode(), kind, build.scalar(kind, value))


def text(key: str, value: str | bytes) -> Entry:
    """A text, sound or not."""
    return Entry(key.encode(), build.STRING, build.text(value))


def texts(key: str, values: list[str] | list[bytes]) -> Entry:
    """A list of texts, sound or not."""
    head = struct.pack("<IQ", build.STRING, len(values))
    return Entry(key.encode(), build.ARRAY, head + b"".join(build.text(one) for one in values))


def numbers(key: str, kind: int, values: list[int] | list[float]) -> Entry:
    """A list of numbers."""
    head = struct.pack("<IQ", kind, len(values))
    return Entry(key.encode(), build.ARRAY, head + b"".join(build.scalar(kind, one) for one in values))


def vocabulary() -> list[str]:
    """A token for each byte, so that every text has tokens, and some others."""
    known = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    known += [chr(code) for code in range(ord("a"), ord("z") + 1)]
    return known + [f"▁word{number}" for number in range(_TOKENS - len(known))]


def token_types() -> list[int]:
    """What each token is."""
    return [_UNKNOWN, _CONTROL, _CONTROL, *([_BYTE] * 256), *([_NORMAL] * (_TOKENS - 259))]


def sound() -> Document:
    """A llama of 0.2 million random weights that llama.cpp loads, and that answers nonsense."""
    entries = (
        text("general.architecture", "llama"),
        text("general.name", "tiny"),
        text("general.license", "apache-2.0"),
        scalar("general.file_type", build.U32, 7),
        scalar("llama.block_count", build.U32, _LAYERS),
        scalar("llama.context_length", build.U32, 512),
        scalar("llama.embedding_length", build.U32, _WIDTH),
        scalar("llama.feed_forward_length", build.U32, _INNER),
        scalar("llama.attention.head_count", build.U32, _HEADS),
        scalar("llama.attention.head_count_kv", build.U32, _KV_HEADS),
        scalar("llama.attention.layer_norm_rms_epsilon", build.F32, 1e-5),
        scalar("llama.rope.dimension_count", build.U32, _WIDTH // _HEADS),
        scalar("llama.rope.freq_base", build.F32, 10_000.0),
        scalar("llama.vocab_size", build.U32, _TOKENS),
        text("tokenizer.ggml.model", "llama"),
        texts("tokenizer.ggml.tokens", vocabulary()),
        numbers("tokenizer.ggml.scores", build.F32, [-float(number) for number in range(_TOKENS)]),
        numbers("tokenizer.ggml.token_type", build.I32, token_types()),
        scalar("tokenizer.ggml.bos_token_id", build.U32, 1),
        scalar("tokenizer.ggml.eos_token_id", build.U32, 2),
        scalar("tokenizer.ggml.unknown_token_id", build.U32, 0),
        scalar("tokenizer.ggml.add_bos_token", build.BOOL, 1),
        text("tokenizer.chat_template", TEMPLATE),
    )
    return Document(entries, _pieces())


def _pieces() -> tuple[Piece, ...]:
    cached = _WIDTH // _HEADS * _KV_HEADS
    described: list[tuple[str, tuple[int, ...], int]] = [("token_embd.weight", (_WIDTH, _TOKENS), Q8_0)]
    for layer in range(_LAYERS):
        block = f"blk.{layer}."
        described += [
            (f"{block}attn_norm.weight", (_WIDTH,), F32),
            (f"{block}attn_q.weight", (_WIDTH, _WIDTH), Q8_0),
            (f"{block}attn_k.weight", (_WIDTH, cached), Q8_0),
            (f"{block}attn_v.weight", (_WIDTH, cached), F16),
            (f"{block}attn_output.weight", (_WIDTH, _WIDTH), Q8_0),
            (f"{block}ffn_norm.weight", (_WIDTH,), F32),
            (f"{block}ffn_gate.weight", (_WIDTH, _INNER), Q8_0),
            (f"{block}ffn_up.weight", (_WIDTH, _INNER), Q8_0),
            (f"{block}ffn_down.weight", (_INNER, _WIDTH), Q8_0),
        ]
    described += [("output_norm.weight", (_WIDTH,), F32), ("output.weight", (_WIDTH, _TOKENS), F16)]
    random = np.random.default_rng(1)
    pieces: list[Piece] = []
    offset = 0
    for name, shape, kind in described:
        data = _weights(random, int(np.prod(shape)), kind)
        data += bytes(-len(data) % ALIGNMENT)
        pieces.append(Piece(name.encode(), shape, kind, offset, data))
        offset += len(data)
    return tuple(pieces)


def _weights(random: np.random.Generator, count: int, kind: int) -> bytes:
    if kind == F32:
        return np.ones(count, np.float32).tobytes()
    if kind == F16:
        return (random.standard_normal(count) * 0.1).astype(np.float16).tobytes()
    blocks = np.empty((count // 32, 34), np.uint8)
    blocks[:, :2] = np.array([0.002], np.float16).view(np.uint8)
    blocks[:, 2:] = random.integers(0, 256, (count // 32, 32), np.uint8)
    return blocks.tobytes()
