"""Whole headers of transformers, as llama.cpp reads them: metadata and every tensor, but no vocabulary and no data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lilliput.gguf import BytesSource, GgmlType, Header, place_tensors, read_header
from lilliput.gguf.writer import encode_header, f32, text, u32

Kinds = Callable[[str], GgmlType]
Described = tuple[str, tuple[int, ...], GgmlType]


def half(_name: str) -> GgmlType:
    """Every matrix in half precision."""
    return GgmlType.F16


def q4_0(name: str) -> GgmlType:
    """The usual mixture of Q4_0."""
    return GgmlType.Q6_K if name == "output.weight" else GgmlType.Q4_0


def q2_k(name: str) -> GgmlType:
    """The usual mixture of Q2_K where four or more query heads share one of the cache."""
    if name == "output.weight":
        return GgmlType.Q6_K
    if "attn_v" in name:
        return GgmlType.Q4_K
    return GgmlType.Q3_K if "attn_output" in name or "ffn_down" in name else GgmlType.Q2_K


@dataclass(frozen=True, slots=True)
class Transformer:
    """Widths of a model with grouped attention; with ``experts`` its feed-forward parts are choices of them."""

    blocks: int = 4
    width: int = 256
    heads: int = 4
    kv_heads: int = 2
    inner: int = 512
    vocabulary: int = 1024
    context: int = 8192
    tied: bool = False
    experts: int = 0
    used_experts: int = 0
    architecture: str = "llama"

    def content(self, kinds: Kinds = half, file_type: int | None = None) -> bytes:
        """The header as it stands in a file."""
        prefix = self.architecture
        numbers = {
            "block_count": self.blocks,
            "context_length": self.context,
            "embedding_length": self.width,
            "feed_forward_length": self.inner,
            "attention.head_count": self.heads,
            "attention.head_count_kv": self.kv_heads,
            "rope.dimension_count": self.width // self.heads,
            "vocab_size": self.vocabulary,
        }
        if self.experts:
            numbers |= {"expert_count": self.experts, "expert_used_count": self.used_experts}
        metadata = {"general.architecture": text(prefix), "tokenizer.ggml.model": text("no_vocab")}
        metadata |= {f"{prefix}.{key}": u32(value) for key, value in numbers.items()}
        metadata[f"{prefix}.attention.layer_norm_rms_epsilon"] = f32(1e-5)
        if file_type is not None:
            metadata["general.file_type"] = u32(file_type)
        return encode_header(metadata, place_tensors(self._tensors(kinds)))

    def header(self, kinds: Kinds = half, file_type: int | None = None) -> Header:
        """The header as the reader gives it."""
        return read_header(BytesSource(self.content(kinds, file_type), complete=False))

    def _tensors(self, kinds: Kinds) -> Iterator[Described]:
        for name, shape in self._matrices():
            yield name, shape, kinds(name) if len(shape) > 1 and "gate_inp" not in name else GgmlType.F32

    def _matrices(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        width, cached = self.width, self.width // self.heads * self.kv_heads
        yield "token_embd.weight", (width, self.vocabulary)
        for block in range(self.blocks):
            at = f"blk.{block}"
            yield f"{at}.attn_norm.weight", (width,)
            yield f"{at}.attn_q.weight", (width, width)
            yield f"{at}.attn_k.weight", (width, cached)
            yield f"{at}.attn_v.weight", (width, cached)
            yield f"{at}.attn_output.weight", (width, width)
            yield f"{at}.ffn_norm.weight", (width,)
            if self.experts:
                yield f"{at}.ffn_gate_inp.weight", (width, self.experts)
                yield f"{at}.ffn_gate_exps.weight", (width, self.inner, self.experts)
                yield f"{at}.ffn_up_exps.weight", (width, self.inner, self.experts)
                yield f"{at}.ffn_down_exps.weight", (self.inner, width, self.experts)
            else:
                yield f"{at}.ffn_gate.weight", (width, self.inner)
                yield f"{at}.ffn_up.weight", (width, self.inner)
                yield f"{at}.ffn_down.weight", (self.inner, width)
        yield "output_norm.weight", (width,)
        if not self.tied:
            yield "output.weight", (width, self.vocabulary)


LLAMA_70B = Transformer(80, 8192, 64, 8, 28672, 128256, 131072)
"""Llama 3.1 70B."""
SMALL = Transformer()
MIXTURE = Transformer(experts=8, used_experts=2)
