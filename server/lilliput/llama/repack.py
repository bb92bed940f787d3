"""Which tensor types this machine and build copy into buffers of their own (repacked for the CPU's vector units, AMX).

Asked of llama.cpp by loading small generated models, and by computing with each type that is copied: what the
machine refuses ends the child. The answer holds per machine and build. A child:
``python -m lilliput.llama.repack RUNG`` prints one JSON line::

    {"types": {"Q4_0": {"buffer": "CPU_REPACK", "rows": 8, "ratio": 1.0}}, "experts": true, "tied_output": true}

``rows``: a matrix is copied when its row count is a multiple of it; ``ratio``: bytes of the copy by the original's.
``experts``: matrices of experts are copied too; ``tied_output``: a token embedding that serves as output matrix is
copied, and the original stays in use for the lookup of tokens. Types that are not named stay where the file is mapped.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from lilliput.children import end_with_parent, start_child
from lilliput.gguf import GgmlType
from lilliput.gguf.writer import encode_header, f32, place_tensors, text, u32
from lilliput.llama.rungs import RUNGS, Rung

TIMEOUT_S = 30.0

_WIDTH = 256
_VOCABULARY = 64
_TOKENS = 32
"""Multiplied at once: a whole matrix product, as the warm-up of an engine has it."""

_ROWS = 4096
_EXPERTS = 4
_MULTIPLES = (1, 2, 4, 8, 16, 32, 64)
_NEVER = frozenset({"F32", "F64", "I8", "I16", "I32", "I64", "Q8_1", "Q8_K"})
"""Types that no kernel repacks, or that no file has."""

_PLAIN_BUFFERS = frozenset({"CPU", "CPU_Mapped"})
_SAME = 0.02
"""The log rounds sizes: a ratio this close to one is one."""


async def ask_repacking(timeout_s: float = TIMEOUT_S, *, rung: Rung = "native") -> dict[str, Any] | None:
    """The answer of a child that is held to ``rung``; None when it crashed. Raises TimeoutError when it is too slow."""
    child = start_child("lilliput.llama.repack", rung, humble=True)
    try:
        async with asyncio.timeout(timeout_s):
            output = await child.output.read()
        answer: dict[str, Any] = msgspec.json.decode(output)
    except msgspec.DecodeError:
        return None
    else:
        return answer
    finally:
        await child.aclose()


def find_repacking(kinds: Iterable[GgmlType] = GgmlType, *, rung: Rung = "native") -> dict[str, Any]:
    """The answer, found in this process; types that the build cannot load are left out."""
    with tempfile.TemporaryDirectory(prefix="lilliput-repack-") as directory:
        probe = _Probe(Path(directory) / "model.gguf", rung)
        types: dict[str, dict[str, Any]] = {}
        for kind in kinds:
            if kind.name not in _NEVER and (found := probe.find(kind)):
                probe.multiply(kind)  # at once: what the machine refuses ends the child early
                types[kind.name] = found
        first = next((GgmlType[name] for name in types), None)
        experts = bool(first and probe.copies(first, _ROWS, experts=True))
        tied = bool(first and probe.copies(first, _ROWS, tied=True))
        return {"types": types, "experts": experts, "tied_output": tied}


class _Probe:
    def __init__(self, path: Path, rung: Rung) -> None:
        from lilliput.llama.library import start_library

        self._path, self._rung = path, rung
        self._log = start_library()

    def find(self, kind: GgmlType) -> dict[str, Any] | None:
        """How the type is repacked, None when it is not."""
        copies = self.copies(kind, _ROWS)
        if not copies:
            return None
        (buffer, size_bytes) = max(copies.items(), key=lambda item: item[1])
        ratio = size_bytes / (_ROWS * _WIDTH // kind.block_elements * kind.block_bytes)
        rows = next((multiple for multiple in _MULTIPLES if self.copies(kind, _ROWS + multiple)), _MULTIPLES[-1])
        return {"buffer": buffer, "rows": rows, "ratio": 1.0 if abs(ratio - 1) <= _SAME else round(ratio, 2)}

    def multiply(self, kind: GgmlType) -> None:
        """Compute with a matrix of this type; a machine that has not what it takes ends the process."""
        from lilliput.llama.batch import Batch
        from lilliput.llama.context import Context
        from lilliput.llama.model import Model
        from lilliput.llama.values import ContextSettings, ModelSettings

        _write_model(self._path, kind, _ROWS, experts=False, tied=False)
        settings = ContextSettings(_WIDTH, 1, ubatch_tokens=_TOKENS, batch_tokens=_TOKENS, threads=1)
        with (
            Model(ModelSettings(str(self._path), gpu_layers=0, rung=self._rung)) as model,
            Context(model, settings) as context,
        ):
            batch = Batch(_TOKENS)
            for position in range(_TOKENS):
                batch.add([1], position, 0, output_last=True)  # the last layer computes what is put out alone
            context.decode(batch)

    def copies(self, kind: GgmlType, rows: int, *, experts: bool = False, tied: bool = False) -> dict[str, int]:
        """Bytes in buffers that are not the file's, of a model that has one matrix of this type."""
        from lilliput.errors import EngineLoadFailed
        from lilliput.llama.buffers import parse_buffers
        from lilliput.llama.model import Model
        from lilliput.llama.values import ModelSettings

        _write_model(self._path, kind, rows, experts=experts, tied=tied)
        lines: list[str] = []
        self._log.on_line = lines.append
        try:
            with Model(ModelSettings(str(self._path), gpu_layers=0, rung=self._rung)):
                weights = parse_buffers(lines).weights
        except EngineLoadFailed:
            return {}
        finally:
            self._log.on_line = None
        return {name: size for name, size in weights.items() if name not in _PLAIN_BUFFERS and size}


def _write_model(path: Path, kind: GgmlType, rows: int, *, experts: bool, tied: bool) -> None:
    """A model of one layer, a hole on disk: one matrix of ``kind`` with so many rows, the rest plain numbers."""
    inner = _WIDTH if tied else rows
    vocabulary = rows if tied else _VOCABULARY
    metadata = {
        "general.architecture": text("llama"),
        "llama.block_count": u32(1),
        "llama.context_length": u32(256),
        "llama.embedding_length": u32(_WIDTH),
        "llama.feed_forward_length": u32(inner),
        "llama.attention.head_count": u32(4),
        "llama.attention.layer_norm_rms_epsilon": f32(1e-5),
        "llama.rope.dimension_count": u32(_WIDTH // 4),
        "llama.vocab_size": u32(vocabulary),
        "tokenizer.ggml.model": text("no_vocab"),
    }
    if experts:
        metadata |= {"llama.expert_count": u32(_EXPERTS), "llama.expert_used_count": u32(2)}
    described = place_tensors(_tensors(kind, inner, vocabulary, experts=experts, tied=tied))
    content = encode_header(metadata, described)
    with path.open("wb") as file:
        file.write(content)
        file.truncate(len(content) + described[-1].offset_bytes + described[-1].size_bytes)


def _tensors(
    kind: GgmlType, inner: int, vocabulary: int, *, experts: bool, tied: bool
) -> Iterable[tuple[str, tuple[int, ...], GgmlType]]:
    plain = GgmlType.F32
    yield "token_embd.weight", (_WIDTH, vocabulary), kind if tied else plain
    yield "blk.0.attn_norm.weight", (_WIDTH,), plain
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        yield f"blk.0.{name}.weight", (_WIDTH, _WIDTH), plain
    yield "blk.0.ffn_norm.weight", (_WIDTH,), plain
    if experts:
        yield "blk.0.ffn_gate_inp.weight", (_WIDTH, _EXPERTS), plain
        yield "blk.0.ffn_gate_exps.weight", (_WIDTH, inner, _EXPERTS), plain
        yield "blk.0.ffn_up_exps.weight", (_WIDTH, inner, _EXPERTS), kind
        yield "blk.0.ffn_down_exps.weight", (inner, _WIDTH, _EXPERTS), plain
    else:
        yield "blk.0.ffn_gate.weight", (_WIDTH, inner), plain
        yield "blk.0.ffn_up.weight", (_WIDTH, inner), plain if tied else kind
        yield "blk.0.ffn_down.weight", (inner, _WIDTH), plain
    yield "output_norm.weight", (_WIDTH,), plain
    if not tied:
        yield "output.weight", (_WIDTH, vocabulary), plain


def main() -> None:
    """Print the answer."""
    end_with_parent()
    parser = argparse.ArgumentParser(prog="lilliput.llama.repack")
    parser.add_argument("rung", choices=RUNGS, nargs="?", default="native")
    rung = parser.parse_args().rung
    # Without it ggml starts a debugger on itself when it aborts.
    os.environ["GGML_NO_BACKTRACE"] = "1"
    sys.stdout.buffer.write(msgspec.json.encode(find_repacking(rung=rung)) + b"\n")


if __name__ == "__main__":
    main()
