"""The tokens of a file's vocabulary, which a header passes over, and whether two vocabularies are the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lilliput.gguf.cursor import Cursor
from lilliput.gguf.header import Header, Skipped
from lilliput.gguf.source import ByteSource

MOST_PADDING = 128
"""Tokens that one vocabulary may have beyond the end of another and count as the same: makers pad to round numbers
(``common_speculative_are_compatible`` of llama.cpp allows as many).
"""

_TOKENS = "tokenizer.ggml.tokens"
_SPECIAL = ("bos", "eos")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """``kind`` of tokenizer, the tokens by id, and the ids of those that begin and end a text, None where unknown."""

    kind: str | None
    tokens: Sequence[bytes]
    special: tuple[int | None, ...]

    def difference(self, other: Vocabulary) -> str | None:
        """In which way ``other`` is another vocabulary, in words; None where the same ids mean the same."""
        if self.kind != other.kind:
            return f"one has a tokenizer of the kind {self.kind}, the other of the kind {other.kind}"
        counts = len(self.tokens), len(other.tokens)
        if abs(counts[0] - counts[1]) > MOST_PADDING:
            return f"one has {counts[0]:,} tokens, the other {counts[1]:,}"
        shared = min(counts)
        if self.tokens[:shared] != other.tokens[:shared]:
            at = next(at for at in range(shared) if self.tokens[at] != other.tokens[at])
            return f"token {at} is {_shown(self.tokens[at])} in one and {_shown(other.tokens[at])} in the other"
        for name, mine, its in zip(_SPECIAL, self.special, other.special, strict=True):
            if mine != its and None not in (mine, its):
                return f"the {name} token is {mine} in one and {its} in the other"
        return None


def read_vocabulary(source: ByteSource, header: Header, *, name: str = "the file") -> Vocabulary:
    """The vocabulary of a file whose ``header`` was read; one without tokens is empty. BadFile where it is cut off."""
    listed = header.metadata.get(_TOKENS)
    kind = header.metadata.get("tokenizer.ggml.model")
    special = (header.metadata.get(f"tokenizer.ggml.{one}_token_id") for one in _SPECIAL)
    return Vocabulary(
        kind if isinstance(kind, str) else None,
        _read_tokens(source, listed, name) if isinstance(listed, Skipped) else _kept(listed),
        tuple(one if isinstance(one, int) else None for one in special),
    )


def _kept(listed: object) -> tuple[bytes, ...]:
    return tuple(str(one).encode() for one in listed) if isinstance(listed, tuple) else ()


def _read_tokens(source: ByteSource, listed: Skipped, name: str) -> tuple[bytes, ...]:
    cursor = Cursor(source, name=name, cap_bytes=1 << 62)
    cursor.skip(listed.offset_bytes, "the header before its vocabulary")
    return tuple(cursor.take(cursor.u64("a token's length"), "a token") for _ in range(listed.length))


def _shown(token: bytes) -> str:
    return repr(token.decode(errors="replace"))
