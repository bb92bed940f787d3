"""Header files of well-known models: what their GGUF files say, without vocabulary and weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lilliput.gguf import GgmlType, place_tensors
from lilliput.gguf.writer import encode_header, encode_value, f32, text, u32

F32, F16, MXFP4 = GgmlType.F32, GgmlType.F16, GgmlType.MXFP4
Described = tuple[str, tuple[int, ...], GgmlType]
Value = bytes | int | float | str | Sequence[int] | Sequence[bool]


@dataclass(frozen=True, slots=True)
class ShapeFile:
    """A model by its metadata (keys without the architecture's prefix, ``__`` for a dot) and its tensors."""

    architecture: str
    tensors: Callable[[], Iterator[Described]]
    keys: dict[str, Value] = field(default_factory=dict)

    def write(self, path: Path) -> Path:
        """Write the header and a hole for the data."""
        metadata = {"general.architecture": text(self.architecture), "tokenizer.ggml.model": text("no_vocab")}
        for name, value in self.keys.items():
            metadata[f"{self.architecture}.{name.replace('__', '.')}"] = _encoded(value)
        tensors = place_tensors(self.tensors())
        content = encode_header(metadata, tensors)
        with path.open("wb") as file:
            file.write(content)
            file.truncate(len(content) + tensors[-1].offset_bytes + tensors[-1].size_bytes)
        return path


def _encoded(value: Value) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, bool):
        return encode_value(value, "bool")
    if isinstance(value, int):
        return u32(value)
    if isinstance(value, float):
        return f32(value)
    if isinstance(value, str):
        return text(value)
    return encode_value(value, "bool[]" if isinstance(value[0], bool) else "int32[]")


@dataclass(frozen=True, slots=True)
class Dense:
    """Widths of a transformer with grouped attention; ``head`` 0 is the width over the heads."""

    blocks: int
    width: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int
    head: int = 0
    tied: bool = False
    biased: bool = False
    head_norms: bool = False
    post_norms: bool = False
    experts: int = 0
    used_experts: int = 0
    expert_inner: int = 0
    tensor_type: GgmlType = F16

    @property
    def head_width(self) -> int:
        """Elements of a head."""
        return self.head or self.width // self.heads

    def keys(self) -> dict[str, Value]:
        """The metadata that all of them have."""
        keys: dict[str, Value] = {
            "block_count": self.blocks,
            "context_length": 131072,
            "embedding_length": self.width,
            "feed_forward_length": self.inner,
            "attention__head_count": self.heads,
            "attention__head_count_kv": self.kv_heads,
            "attention__layer_norm_rms_epsilon": 1e-5,
            "vocab_size": self.vocabulary,
        }
        if self.head:
            keys |= {"attention__key_length": self.head, "attention__value_length": self.head}
        if self.experts:
            keys |= {
                "expert_count": self.experts,
                "expert_used_count": self.used_experts,
                "expert_feed_forward_length": self.expert_inner,
            }
        return keys

    def tensors(self) -> Iterator[Described]:
        """Embedding, layers, output."""
        yield "token_embd.weight", (self.width, self.vocabulary), self.tensor_type
        for block in range(self.blocks):
            for name, shape, kind in self.layer():
                yield f"blk.{block}.{name}", shape, kind
        yield "output_norm.weight", (self.width,), F32
        if not self.tied:
            yield "output.weight", (self.width, self.vocabulary), self.tensor_type

    def layer(self) -> Iterator[Described]:
        """One layer."""
        yield from self.attention()
        yield from self.feed_forward()

    def attention(self) -> Iterator[Described]:
        """Norms and matrices of attention."""
        query, cached = self.heads * self.head_width, self.kv_heads * self.head_width
        yield "attn_norm.weight", (self.width,), F32
        for name, rows in (("attn_q", query), ("attn_k", cached), ("attn_v", cached)):
            yield f"{name}.weight", (self.width, rows), self.tensor_type
            if self.biased:
                yield f"{name}.bias", (rows,), F32
        yield "attn_output.weight", (query, self.width), self.tensor_type
        if self.head_norms:
            yield "attn_q_norm.weight", (self.head_width,), F32
            yield "attn_k_norm.weight", (self.head_width,), F32
        if self.post_norms:
            yield "post_attention_norm.weight", (self.width,), F32

    def feed_forward(self) -> Iterator[Described]:
        """The matrices after attention, those of experts in threes."""
        yield "ffn_norm.weight", (self.width,), F32
        if self.post_norms:
            yield "post_ffw_norm.weight", (self.width,), F32
        if self.experts:
            inner, count = self.expert_inner, self.experts
            yield "ffn_gate_inp.weight", (self.width, count), F32
            yield "ffn_gate_exps.weight", (self.width, inner, count), self.tensor_type
            yield "ffn_up_exps.weight", (self.width, inner, count), self.tensor_type
            yield "ffn_down_exps.weight", (inner, self.width, count), self.tensor_type
        else:
            yield "ffn_gate.weight", (self.width, self.inner), self.tensor_type
            yield "ffn_up.weight", (self.width, self.inner), self.tensor_type
            yield "ffn_down.weight", (self.inner, self.width), self.tensor_type


def dense(architecture: str, shape: Dense, **keys: Value) -> ShapeFile:
    """A model of an architecture whose tensors are the usual ones."""
    return ShapeFile(architecture, shape.tensors, shape.keys() | keys)


@dataclass(frozen=True, slots=True)
class _GptOss(Dense):
    def attention(self) -> Iterator[Described]:
        query, cached = self.heads * self.head_width, self.kv_heads * self.head_width
        yield from Dense.attention(self)
        yield "attn_output.bias", (self.width,), F32
        yield "attn_sinks.weight", (self.heads,), F32
        assert query > cached

    def feed_forward(self) -> Iterator[Described]:
        inner, count = self.expert_inner, self.experts
        yield "post_attention_norm.weight", (self.width,), F32
        yield "ffn_gate_inp.weight", (self.width, count), F32
        yield "ffn_gate_inp.bias", (count,), F32
        for name, shape in (("gate", (self.width, inner)), ("up", (self.width, inner)), ("down", (inner, self.width))):
            yield f"ffn_{name}_exps.weight", (*shape, count), MXFP4
            yield f"ffn_{name}_exps.bias", (shape[1], count), F32


@dataclass(frozen=True, slots=True)
class _Hybrid(Dense):
    """Three layers of linear attention, then one with a cache."""

    inner_size: int = 6144
    state: int = 128
    groups: int = 16
    ranks: int = 48
    kernel: int = 4

    def tensors(self) -> Iterator[Described]:
        yield "token_embd.weight", (self.width, self.vocabulary), self.tensor_type
        for block in range(self.blocks):
            layer = self._attention() if block % 4 == 3 else self._recurrence()
            for name, shape, kind in (*layer, *self._rest()):
                yield f"blk.{block}.{name}", shape, kind
        yield "output_norm.weight", (self.width,), F32
        yield "output.weight", (self.width, self.vocabulary), self.tensor_type

    def _attention(self) -> Iterator[Described]:
        query, cached = self.heads * self.head_width, self.kv_heads * self.head_width
        yield "attn_norm.weight", (self.width,), F32
        yield "attn_q.weight", (self.width, 2 * query), self.tensor_type
        yield "attn_k.weight", (self.width, cached), self.tensor_type
        yield "attn_v.weight", (self.width, cached), self.tensor_type
        yield "attn_output.weight", (query, self.width), self.tensor_type
        yield "attn_q_norm.weight", (self.head_width,), F32
        yield "attn_k_norm.weight", (self.head_width,), F32

    def _recurrence(self) -> Iterator[Described]:
        mixed = self.inner_size + 2 * self.groups * self.state
        yield "attn_norm.weight", (self.width,), F32
        yield "attn_qkv.weight", (self.width, mixed), self.tensor_type
        yield "attn_gate.weight", (self.width, self.inner_size), self.tensor_type
        yield "ssm_conv1d.weight", (self.kernel, mixed), F32
        yield "ssm_dt.bias", (self.ranks,), F32
        yield "ssm_a", (self.ranks,), F32
        yield "ssm_beta.weight", (self.width, self.ranks), self.tensor_type
        yield "ssm_alpha.weight", (self.width, self.ranks), self.tensor_type
        yield "ssm_norm.weight", (self.state,), F32
        yield "ssm_out.weight", (self.inner_size, self.width), self.tensor_type

    def _rest(self) -> Iterator[Described]:
        yield "post_attention_norm.weight", (self.width,), F32
        yield "ffn_gate.weight", (self.width, self.inner), self.tensor_type
        yield "ffn_up.weight", (self.width, self.inner), self.tensor_type
        yield "ffn_down.weight", (self.inner, self.width), self.tensor_type


def hybrid(shape: _Hybrid) -> ShapeFile:
    """A hybrid of linear and full attention."""
    keys: dict[str, Value] = {
        "full_attention_interval": 4,
        "ssm__conv_kernel": shape.kernel,
        "ssm__inner_size": shape.inner_size,
        "ssm__state_size": shape.state,
        "ssm__group_count": shape.groups,
        "ssm__time_step_rank": shape.ranks,
        "rope__dimension_count": 64,
        "rope__dimension_sections": (11, 11, 10, 0),
    }
    return ShapeFile("qwen35", shape.tensors, shape.keys() | keys)


@dataclass(frozen=True, slots=True)
class _Latent(Dense):
    """Attention with a compressed cache; all but the first layers have experts and one that all tokens share."""

    rank: int = 512
    query_rank: int = 1536
    plain: int = 128
    rotated: int = 64
    dense_layers: int = 3

    def tensors(self) -> Iterator[Described]:
        yield "token_embd.weight", (self.width, self.vocabulary), self.tensor_type
        for block in range(self.blocks):
            feed_forward = self._dense() if block < self.dense_layers else self._experts()
            for name, shape, kind in (*self._attention(), *feed_forward):
                yield f"blk.{block}.{name}", shape, kind
        yield "output_norm.weight", (self.width,), F32
        yield "output.weight", (self.width, self.vocabulary), self.tensor_type

    def _attention(self) -> Iterator[Described]:
        yield "attn_norm.weight", (self.width,), F32
        yield "attn_q_a.weight", (self.width, self.query_rank), self.tensor_type
        yield "attn_q_a_norm.weight", (self.query_rank,), F32
        yield "attn_q_b.weight", (self.query_rank, self.heads * (self.plain + self.rotated)), self.tensor_type
        yield "attn_kv_a_mqa.weight", (self.width, self.rank + self.rotated), self.tensor_type
        yield "attn_kv_a_norm.weight", (self.rank,), F32
        yield "attn_k_b.weight", (self.plain, self.rank, self.heads), self.tensor_type
        yield "attn_v_b.weight", (self.rank, self.plain, self.heads), self.tensor_type
        yield "attn_output.weight", (self.heads * self.plain, self.width), self.tensor_type
        yield "ffn_norm.weight", (self.width,), F32

    def _dense(self) -> Iterator[Described]:
        yield "ffn_gate.weight", (self.width, self.inner), self.tensor_type
        yield "ffn_up.weight", (self.width, self.inner), self.tensor_type
        yield "ffn_down.weight", (self.inner, self.width), self.tensor_type

    def _experts(self) -> Iterator[Described]:
        inner, count = self.expert_inner, self.experts
        yield "ffn_gate_inp.weight", (self.width, count), F32
        yield "exp_probs_b.bias", (count,), F32
        for end, last in (("exps", (count,)), ("shexp", ())):
            yield f"ffn_gate_{end}.weight", (self.width, inner, *last), self.tensor_type
            yield f"ffn_up_{end}.weight", (self.width, inner, *last), self.tensor_type
            yield f"ffn_down_{end}.weight", (inner, self.width, *last), self.tensor_type


def latent(shape: _Latent) -> ShapeFile:
    """A model with latent attention and experts."""
    keys: dict[str, Value] = {
        "attention__head_count_kv": 1,
        "attention__key_length": shape.rank + shape.rotated,
        "attention__value_length": shape.rank,
        "attention__key_length_mla": shape.plain + shape.rotated,
        "attention__value_length_mla": shape.plain,
        "attention__kv_lora_rank": shape.rank,
        "attention__q_lora_rank": shape.query_rank,
        "rope__dimension_count": shape.rotated,
        "leading_dense_block_count": shape.dense_layers,
        "expert_shared_count": 1,
        "expert_weights_scale": 2.5,
        "expert_weights_norm": True,
        "expert_gating_func": 2,
    }
    return ShapeFile("deepseek2", shape.tensors, shape.keys() | keys)


@dataclass(frozen=True, slots=True)
class _Gemma4(Dense):
    """Every sixth layer attends to all with fewer, wider heads and without values of its own."""

    global_kv_heads: int = 1
    global_head: int = 512

    def tensors(self) -> Iterator[Described]:
        yield "token_embd.weight", (self.width, self.vocabulary), self.tensor_type
        yield "rope_freqs.weight", (self.global_head // 2,), F32
        for block in range(self.blocks):
            whole = block % 6 == 5
            attention = self._attention(whole=whole)
            for name, shape, kind in (*attention, *self.feed_forward()):
                yield f"blk.{block}.{name}", shape, kind
            yield f"blk.{block}.layer_output_scale.weight", (1,), F32
        yield "output_norm.weight", (self.width,), F32

    def _attention(self, *, whole: bool) -> Iterator[Described]:
        head = self.global_head if whole else self.head
        cached = head * (self.global_kv_heads if whole else self.kv_heads)
        yield "attn_norm.weight", (self.width,), F32
        yield "attn_q.weight", (self.width, self.heads * head), self.tensor_type
        yield "attn_k.weight", (self.width, cached), self.tensor_type
        if not whole:
            yield "attn_v.weight", (self.width, cached), self.tensor_type
        yield "attn_output.weight", (self.heads * head, self.width), self.tensor_type
        yield "attn_q_norm.weight", (head,), F32
        yield "attn_k_norm.weight", (head,), F32
        yield "post_attention_norm.weight", (self.width,), F32


def gemma4(shape: _Gemma4) -> ShapeFile:
    """A model with two kinds of attention layers."""
    groups = shape.blocks // 6
    keys: dict[str, Value] = {
        "attention__head_count_kv": (*([shape.kv_heads] * 5), shape.global_kv_heads) * groups,
        "attention__key_length": shape.global_head,
        "attention__value_length": shape.global_head,
        "attention__key_length_swa": shape.head,
        "attention__value_length_swa": shape.head,
        "attention__sliding_window": 1024,
        "attention__sliding_window_pattern": (True, True, True, True, True, False) * groups,
        "attention__shared_kv_layers": 0,
        "embedding_length_per_layer_input": 0,
        "rope__dimension_count": shape.global_head,
        "rope__dimension_count_swa": shape.head,
        "rope__freq_base_swa": 10000.0,
        "rope__freq_base": 1000000.0,
    }
    return ShapeFile("gemma4", shape.tensors, shape.keys() | keys)


LLAMA_8B = dense("llama", Dense(32, 4096, 32, 8, 14336, 128256), rope__dimension_count=128)
LLAMA_70B = dense("llama", Dense(80, 8192, 64, 8, 28672, 128256), rope__dimension_count=128)
QWEN2_7B = dense("qwen2", Dense(28, 3584, 28, 4, 18944, 152064, biased=True))
QWEN3_06B = dense("qwen3", Dense(28, 1024, 16, 8, 3072, 151936, head=128, head_norms=True, tied=True))
QWEN3_30B_A3B = dense(
    "qwen3moe",
    Dense(48, 2048, 32, 4, 6144, 151936, head=128, head_norms=True, experts=128, used_experts=8, expert_inner=768),
)
GEMMA3_27B = dense(
    "gemma3",
    Dense(62, 5376, 32, 16, 21504, 262144, head=128, head_norms=True, post_norms=True, tied=True),
    attention__sliding_window=1024,
)
GPT_OSS_120B = dense(
    "gpt-oss",
    _GptOss(36, 2880, 64, 8, 2880, 201088, head=64, biased=True, experts=128, used_experts=4, expert_inner=2880),
    attention__sliding_window=128,
)
QWEN35_27B = hybrid(_Hybrid(64, 5120, 24, 4, 17408, 248320, head=256))
QWEN35_9B = hybrid(_Hybrid(32, 4096, 16, 4, 12288, 248320, head=256, inner_size=4096, ranks=32))
DEEPSEEK_V3 = latent(_Latent(61, 7168, 128, 128, 18432, 129280, experts=256, used_experts=8, expert_inner=2048))
GEMMA4_12B = gemma4(_Gemma4(48, 3840, 16, 8, 15360, 262144, head=256, head_norms=True, post_norms=True, tied=True))
