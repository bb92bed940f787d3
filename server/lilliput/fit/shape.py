"""What the memory formula must know of a model: its caches, its widths and its vocabulary."""

from __future__ import annotations

from dataclasses import dataclass

from lilliput.errors import BadFile
from lilliput.fit.windows import layer_windows
from lilliput.gguf import Header

_ATTENTION_EVERY = {"qwen3next": 4, "qwen35": 4, "qwen35moe": 4}
"""Hybrids with one attention layer in so many, the last of each; the key ``full_attention_interval`` overrides."""

_RECURRENT_ONLY = frozenset({"arwkv7", "mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7"})
_ENCODERS = frozenset(
    {
        "bert",
        "eurobert",
        "gemma-embedding",
        "jina-bert-v2",
        "jina-bert-v3",
        "modern-bert",
        "neo-bert",
        "nomic-bert",
        "nomic-bert-moe",
        "t5encoder",
    }
)
"""Architectures of which llama.cpp keeps no cache (``llama_model::create_memory``): they see an input whole."""

_BOTH_IN_EVERY_LAYER = frozenset({"falcon-h1"})
_LAYERS_WITH_OWN_CACHE = {"gemma3n": 20}
"""Later layers read the caches of earlier ones; the key ``attention.shared_kv_layers`` overrides."""


@dataclass(frozen=True, slots=True)
class CacheLayer:
    """The cache of one attention layer: elements a cell, the window in tokens where attention slides, and its block."""

    key_elements: int
    value_elements: int
    window_tokens: int | None = None
    block: int = 0


@dataclass(frozen=True, slots=True)
class Shape:
    """A model as the memory formula sees it; all widths in elements a token.

    ``block_count`` are all layers, ``layers`` those that own a cache. ``layer_elements`` is what the widest layer keeps
    at once between attention and the next layer. ``latent_elements`` is the extra scratch of latent attention.
    ``recurrent_bytes`` is the state of a sequence in all recurrent layers. ``merge_count`` are the vocabulary's merge
    rules, None where it is not known. An ``encoder`` sees an input whole, keeps no cache and generates nothing.
    """

    architecture: str
    context_length: int | None
    vocab_size: int
    embedding_length: int
    head_count: int
    query_elements: int
    layer_elements: int
    layers: tuple[CacheLayer, ...]
    latent_elements: int = 0
    recurrent_bytes: int = 0
    block_count: int = 0
    merge_count: int | None = None
    encoder: bool = False


def shape_of(header: Header) -> Shape:
    """The shape of a language model from its file's header; BadFile when the header does not describe one."""
    architecture = header.architecture
    if architecture is None:
        raise BadFile("the file does not say its architecture", hint="is it a model, or a shard that is not the first?")
    blocks, width = header.block_count, header.embedding_length
    if not blocks or not width:
        raise BadFile(f"the file describes no {architecture} model: no layers or no width", hint="choose a model file")
    heads = header.head_count or 0
    used = max(0, blocks - _number(header, "nextn_predict_layers"))
    return Shape(
        architecture=architecture,
        context_length=header.context_length,
        vocab_size=_vocab_size(header),
        embedding_length=width,
        head_count=heads,
        query_elements=heads * (header.key_length or 0),
        layer_elements=_layer_elements(header, width),
        layers=_cache_layers(header, used),
        latent_elements=2 * heads * _latent_rank(header),
        recurrent_bytes=_recurrent_bytes(header, used, width),
        merge_count=header.merge_count,
        block_count=blocks,
        encoder=is_encoder(header),
    )


def is_encoder(header: Header) -> bool:
    """Whether every token sees all others, so that the model can embed but not generate."""
    architecture = header.architecture or ""
    return architecture in _ENCODERS or header.metadata.get(f"{architecture}.attention.causal") is False


def _cache_layers(header: Header, blocks: int) -> tuple[CacheLayer, ...]:
    """The layers that own a cache: neither recurrent nor reading the cache of an earlier one."""
    if is_encoder(header):
        return ()
    heads = _kv_heads(header, blocks)
    windows = layer_windows(header, blocks)
    owned = blocks
    shared = _number(header, "attention.shared_kv_layers")
    owned = owned - shared if shared else min(owned, _LAYERS_WITH_OWN_CACHE.get(header.architecture or "", owned))
    layers = []
    for layer in range(max(0, owned)):
        if heads[layer]:
            key, value = _head_widths(header, heads[layer], sliding=windows[layer] is not None)
            layers.append(CacheLayer(key, value, windows[layer], layer))
    return tuple(layers)


def _kv_heads(header: Header, blocks: int) -> tuple[int, ...]:
    """Key/value heads a layer; 0 where a layer has no attention."""
    architecture = header.architecture or ""
    if architecture in _RECURRENT_ONLY:
        return (0,) * blocks
    heads = header.head_count_kv
    if heads is None:
        raise BadFile(f"the {architecture} file does not say its attention heads", hint="choose a model file")
    if len(heads) < blocks:
        raise BadFile(f"the {architecture} file has {blocks} layers but attention heads for {len(heads)}")
    every = _number(header, "full_attention_interval") or _ATTENTION_EVERY.get(architecture, 1)
    return tuple(count if layer % every == every - 1 else 0 for layer, count in enumerate(heads[:blocks]))


def _head_widths(header: Header, heads: int, *, sliding: bool) -> tuple[int, int]:
    """Elements of keys and values a cell. Latent attention keeps one compressed key and no values."""
    rank = _latent_rank(header)
    if rank:
        return rank + _number(header, "rope.dimension_count"), 0
    key, value = header.key_length or 0, header.value_length or 0
    if sliding:
        key = _number(header, "attention.key_length_swa") or key
        value = _number(header, "attention.value_length_swa") or value
    return heads * key, heads * value


def _latent_rank(header: Header) -> int:
    """Rank of the compressed cache; 0 for older conversions of such models, which cache whole keys and values."""
    return _number(header, "attention.kv_lora_rank") if _number(header, "attention.key_length_mla") else 0


def _recurrent_bytes(header: Header, blocks: int, width: int) -> int:
    """State of one sequence in float32: convolution and state rows of each layer that is not attention."""
    if header.architecture in _BOTH_IN_EVERY_LAYER:
        layers = blocks
    else:
        layers = sum(1 for count in _kv_heads(header, blocks) if not count)
    if layers == 0:
        return 0
    head, short = _number(header, "wkv.head_size"), _number(header, "shortconv.l_cache")
    if head:
        elements = (_number(header, "token_shift_count") or 2) * width + width * head
    elif short:
        elements = width * (short - 1)
    else:
        inner, state = _number(header, "ssm.inner_size"), _number(header, "ssm.state_size")
        kernel = max(1, _number(header, "ssm.conv_kernel"))
        elements = (kernel - 1) * (inner + 2 * _number(header, "ssm.group_count") * state) + state * inner
    return layers * elements * 4


def _layer_elements(header: Header, width: int) -> int:
    """Activations of the feed-forward part: three rows of its width, four of the model's, more for experts."""
    dense = 3 * _largest(header, "feed_forward_length")
    used = _number(header, "expert_used_count")
    experts = used * (3 * _largest(header, "expert_feed_forward_length") + width)
    return max(dense, experts + 3 * _number(header, "expert_shared_feed_forward_length")) + 4 * width


def _vocab_size(header: Header) -> int:
    if header.vocab_size:
        return header.vocab_size
    for tensor in header.tensors:
        if tensor.name == "token_embd.weight" and len(tensor.shape) == 2:
            return tensor.shape[1]
    raise BadFile("the file does not say how many tokens its vocabulary has", hint="choose a model file")


def _number(header: Header, key: str) -> int:
    value = header.metadata.get(f"{header.architecture}.{key}")
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _largest(header: Header, key: str) -> int:
    value = header.metadata.get(f"{header.architecture}.{key}")
    if isinstance(value, tuple):
        return max((one for one in value if isinstance(one, int)), default=0)
    return _number(header, key)
