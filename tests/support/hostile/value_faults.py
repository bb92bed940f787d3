"""Files that are sound as GGUF and say what cannot be: absurd numbers, wrong types, bad texts, hostile vocabularies."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from tests.support.hostile.document import (
    Document,
    Entry,
    numbers,
    scalar,
    text,
    texts,
    token_types,
    vocabulary,
)
from tests.unit.gguf import build

Case = tuple[str, bytes]
_WHOLE = (0, 1, 3, 7, 1 << 16, (1 << 31) - 1, (1 << 32) - 1)
_BROKEN = (0.0, -1.0, math.nan, math.inf, 1e30)
_ARCHITECTURES = ("gpt2", "qwen2", "mamba", "clip", "whisper", "t5", "bert", "gemma3", "deepseek2", "rwkv7", "unknown")


def value_faults(document: Document) -> Iterator[Case]:
    """All of them, each with a name."""
    for name, changed in _changes(document):
        yield name, changed.encode()


def _changes(document: Document) -> Iterator[tuple[str, Document]]:
    for entry in document.entries:
        key = entry.key.decode()
        yield f"without {key}", document.without_entry(entry.key)
        yield f"{key} twice", replace(document, entries=(*document.entries, entry))
        for name, other in _retyped(key, entry):
            yield f"{key} as {name}", document.with_entry(other)
        if entry.kind == build.U32:
            for value in _WHOLE:
                yield f"{key} is {value}", document.with_entry(scalar(key, build.U32, value))
        elif entry.kind == build.F32:
            for broken in _BROKEN:
                yield f"{key} is {broken}", document.with_entry(scalar(key, build.F32, broken))
    for number, entry in enumerate(_extras()):
        yield f"{entry.key[:60].decode()} added ({number})", document.with_entry(entry)
    yield from _texts(document)
    yield from _vocabularies(document)
    yield from _templates(document)


def _retyped(key: str, entry: Entry) -> Iterator[tuple[str, Entry]]:
    others = (
        ("a text", text(key, "x")),
        ("a negative number", scalar(key, build.I32, -1)),
        ("a fraction", scalar(key, build.F64, 0.5)),
        ("a long number", scalar(key, build.U64, (1 << 64) - 1)),
        ("a truth", scalar(key, build.BOOL, 1)),
        ("a list", numbers(key, build.U32, [1, 2, 3])),
        ("an empty list", numbers(key, build.U32, [])),
    )
    for name, other in others:
        if other.kind != entry.kind:
            yield name, other


def _extras() -> Iterator[Entry]:
    for alignment in (1, 8, 48, 64, 1 << 30):
        yield scalar("general.alignment", build.U32, alignment)
    for key, values in {
        "llama.attention.key_length": (0, 1, 1 << 31),
        "llama.attention.value_length": (0, 24),
        "llama.attention.sliding_window": (1, 1 << 31),
        "llama.expert_count": (8, 1 << 31),
        "llama.expert_used_count": (2, 1 << 31),
        "llama.pooling_type": (1, 4, 99),
        "llama.nextn_predict_layers": (1, 1 << 31),
        "split.count": (2, 1 << 15),
        "split.no": (1,),
        "general.quantization_version": (0, 99),
    }.items():
        for value in values:
            kind = build.U16 if key.startswith("split") else build.U32
            yield scalar(key, kind, value)
    yield scalar("llama.attention.causal", build.BOOL, 0)
    yield text("llama.rope.scaling.type", "yarn")
    yield text("llama.rope.scaling.type", "no such thing")
    yield scalar("llama.rope.scaling.factor", build.F32, 0.0)
    yield scalar("llama.rope.scaling.factor", build.F32, math.nan)
    yield scalar("llama.rope.scaling.original_context_length", build.U32, 0)
    yield numbers("llama.attention.head_count_kv", build.U32, [2, 0])
    yield numbers("llama.attention.head_count_kv", build.U32, [3, 1])
    yield numbers("llama.feed_forward_length", build.U32, [128, 1 << 31])
    yield Entry(b"deep", build.ARRAY, build.scalar(build.U32, build.ARRAY) + build.scalar(build.U64, 1 << 40))
    yield text("a" * 60_000, "long key")
    yield text("long", "x" * 3_000_000)


def _texts(document: Document) -> Iterator[tuple[str, Document]]:
    for architecture in _ARCHITECTURES:
        yield f"architecture {architecture}", document.with_entry(text("general.architecture", architecture))
    for name, value in {
        "empty": b"",
        "with zeros": b"lla\0ma",
        "no UTF-8": b"\xff\xfe\x80",
        "a surrogate": b"\xed\xa0\x80",
        "control characters": b"\x1b[2J\r\n",
        "a path": b"../../../etc/passwd",
        "long": b"a" * 200_000,
    }.items():
        for key in ("general.architecture", "general.name", "general.license", "tokenizer.ggml.model"):
            yield f"{key} {name}", document.with_entry(text(key, value))


def _vocabularies(document: Document) -> Iterator[tuple[str, Document]]:
    tokens, types = vocabulary(), token_types()
    lists: dict[str, list[str] | list[bytes]] = {
        "of none": [],
        "of one": tokens[:1],
        "too short": tokens[:-1],
        "too long": [*tokens, "▁more"],
        "all alike": ["same"] * len(tokens),
        "all empty": [""] * len(tokens),
        "no UTF-8": [token.encode() + b"\xff" for token in tokens],
        "of long tokens": ["y" * 5000 for _ in tokens],
        "without bytes": [token.replace("<0x", "<0y") for token in tokens],
    }
    for name, value in lists.items():
        yield f"a vocabulary {name}", document.with_entry(texts("tokenizer.ggml.tokens", value))
    for kind in (-1, 0, 3, 4, 5, 99):
        changed = numbers("tokenizer.ggml.token_type", build.I32, [kind] * len(types))
        yield f"tokens of the type {kind}", document.with_entry(changed)
    yield "few token types", document.with_entry(numbers("tokenizer.ggml.token_type", build.I32, types[:5]))
    yield "few scores", document.with_entry(numbers("tokenizer.ggml.scores", build.F32, [0.0] * 5))
    scores = numbers("tokenizer.ggml.scores", build.F32, [math.nan] * len(tokens))
    yield "scores that are no numbers", document.with_entry(scores)
    for model in ("gpt2", "bert", "t5", "rwkv", "no_vocab", "none", "plamo2", "no such thing"):
        yield f"the tokenizer {model}", document.with_entry(text("tokenizer.ggml.model", model))
    bpe = document.with_entry(text("tokenizer.ggml.model", "gpt2"))
    for pre in ("llama-bpe", "no such thing"):
        yield f"pre-tokenizer {pre}", bpe.with_entry(text("tokenizer.ggml.pre", pre))
    for merges in (["a b", "c"], [""] * 10, ["\0 \0"], [" ".join("abc")]):
        yield f"merges {merges}", bpe.with_entry(texts("tokenizer.ggml.merges", merges))
    yield (
        "precompiled rules",
        document.with_entry(text("tokenizer.ggml.model", "t5")).with_entry(
            numbers("tokenizer.ggml.precompiled_charsmap", build.U8, [255] * 64)
        ),
    )


def _templates(document: Document) -> Iterator[tuple[str, Document]]:
    for name, template in {
        "empty": "",
        "that does not compile": "{% for x in %}",
        "without end": "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}",
        "of much text": "{{ 'x' * 100000000 }}",
        "that refuses": "{{ raise_exception('no') }}",
        "that calls itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "that looks inside": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "that divides by zero": "{{ 1 / 0 }}",
        "of large powers": "{{ 9 ** 9 ** 9 }}",
        "too long": "x" * 900_000,
        "deeply nested": "{% if 1 %}" * 400 + "x" + "{% endif %}" * 400,
        "of many brackets": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    }.items():
        yield f"a chat template {name}", document.with_entry(text("tokenizer.chat_template", template))
