"""What one token moves: the bytes of weights and caches that a forward pass reads, by layer and by tensor type.

A generated token reads every matrix once, but of the token embedding one row (unless it serves as the output matrix,
too) and of a layer's experts only those that the router picks. A prompt multiplies the same elements for each of its
tokens.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from lilliput.fit.mixes import type_mix
from lilliput.fit.shape import CacheLayer, Shape, shape_of
from lilliput.gguf import GgmlType, Header, Tensor

_BLOCK = re.compile(r"blk\.(\d+)\.(.+)")
_ROWS_ONLY = ("per_layer_token_embd.", "position_embd.", "token_types.", "rope_", "cls.")
"""Tensors of which a token reads a row or nothing."""


@dataclass(frozen=True, slots=True)
class LayerTraffic:
    """What a token reads of one layer.

    ``dense`` and ``experts`` map tensor types to bytes, experts already reduced to those in use.
    ``attention_elements`` are what one cell adds to the products of all query heads with keys and values. ``cache``
    is None where the layer does not attend. ``state_bytes`` is recurrent state. ``graph`` is the part of a layer's
    fixed cost that falls due here: 1, or less where the layer's experts are computed elsewhere.
    """

    dense: Mapping[str, int]
    experts: Mapping[str, int] = field(default_factory=dict)
    cache: CacheLayer | None = None
    attention_elements: int = 0
    state_bytes: int = 0
    graph: float = 1.0

    @property
    def weight_bytes(self) -> Mapping[str, int]:
        """Bytes of weights by type."""
        return _sum((self.dense, self.experts))

    def cells(self, depth_tokens: int) -> int:
        """Cells a token at this depth looks at: a sliding window bounds them."""
        if self.cache is None:
            return 0
        window = self.cache.window_tokens
        return depth_tokens if window is None else min(depth_tokens, window)

    def cells_of_prompt(self, depth_tokens: int) -> int:
        """Cells that all tokens of a prompt of this length look at, added up."""
        if self.cache is None:
            return 0
        window = min(depth_tokens, self.cache.window_tokens or depth_tokens)
        return window * (window + 1) // 2 + (depth_tokens - window) * window


@dataclass(frozen=True)
class Traffic:
    """What a token reads of a model, or of the part of it that lies on one device.

    ``output`` maps types to bytes of the output matrix; empty when that lies elsewhere, and then ``vocab_size`` is 0.
    ``stored_bytes`` is the size of all tensors of the file, read or not. ``guessed`` says that the types were told from
    the variant's name.
    """

    layers: tuple[LayerTraffic, ...]
    output: Mapping[str, int]
    vocab_size: int
    stored_bytes: int
    guessed: bool = False

    @cached_property
    def weight_bytes(self) -> Mapping[str, int]:
        """Bytes of weights that a generated token reads, by tensor type."""
        return _sum((*(layer.weight_bytes for layer in self.layers), self.output))

    @cached_property
    def expert_bytes(self) -> Mapping[str, int]:
        """The part of ``weight_bytes`` that experts have."""
        return _sum(layer.experts for layer in self.layers)

    @property
    def weight_elements(self) -> int:
        """Numbers in the matrices that a token is multiplied with."""
        return round(sum(elements_of(name, size) for name, size in self.weight_bytes.items()))

    def kv_bytes(self, depth_tokens: int, kv_type: str = "f16") -> int:
        """Bytes of keys and values, and of recurrent state read and written, for a token at this depth."""
        kind = GgmlType[kv_type.upper()]
        total = sum(2 * layer.state_bytes for layer in self.layers)
        for layer in self.layers:
            if layer.cache is not None:
                elements = (layer.cache.key_elements + layer.cache.value_elements) * layer.cells(depth_tokens)
                total += elements * kind.block_bytes // kind.block_elements
        return total

    def attention_elements(self, depth_tokens: int) -> int:
        """Products of queries with keys and values for a token at this depth."""
        return sum(layer.attention_elements * layer.cells(depth_tokens) for layer in self.layers)

    def prompt_attention_elements(self, depth_tokens: int) -> int:
        """The same for all tokens of a prompt of this length."""
        return sum(layer.attention_elements * layer.cells_of_prompt(depth_tokens) for layer in self.layers)

    def part(self, first: int, end: int, *, output: bool, experts: bool | None = None) -> Traffic:
        """The layers ``first`` to ``end`` (not included), with or without the output matrix, for one device.

        ``experts`` True keeps only these layers' experts, False all but them, None both.
        """
        layers = tuple(_side(layer, experts) for layer in self.layers[first:end])
        return replace(
            self,
            layers=layers,
            output=self.output if output else {},
            vocab_size=self.vocab_size if output else 0,
        )

    def joined(self, other: Traffic) -> Traffic:
        """Both parts on one device."""
        return replace(
            self,
            layers=self.layers + other.layers,
            output=_sum((self.output, other.output)),
            vocab_size=self.vocab_size + other.vocab_size,
        )


def traffic_of(header: Header, shards: Sequence[Header] = ()) -> Traffic:
    """What a token reads of the model in this file; ``shards`` are the headers of its other files.

    Raises BadFile when the header does not describe a language model.
    """
    shape = shape_of(header)
    tensors = [tensor for one in (header, *shards) for tensor in one.tensors]
    blocks = max(0, (header.block_count or 0) - _number(header, "nextn_predict_layers"))
    dense: list[Counter[str]] = [Counter() for _ in range(blocks)]
    experts: list[Counter[str]] = [Counter() for _ in range(blocks)]
    output: Counter[str] = Counter()
    part = _expert_part(header)
    tied = not any(tensor.name == "output.weight" for tensor in tensors)
    for tensor in tensors:
        if len(tensor.shape) < 2 or tensor.name.startswith(_ROWS_ONLY):
            continue
        match = _BLOCK.fullmatch(tensor.name)
        if match is None:
            if tied or not tensor.name.startswith("token_embd."):
                output[tensor.type.name] += tensor.size_bytes
        elif int(match[1]) < blocks:
            if "exps." in match[2]:
                experts[int(match[1])][tensor.type.name] += round(tensor.size_bytes * part)
            else:
                dense[int(match[1])][tensor.type.name] += tensor.size_bytes
    caches = _caches(header, shape, tensors, blocks)
    stateful = [at for at, cache in enumerate(caches) if cache is None] or range(blocks)
    layers = tuple(
        LayerTraffic(
            dense=dict(dense[at]),
            experts=dict(experts[at]),
            cache=cache,
            attention_elements=_attention_elements(header, shape, at, cache),
            state_bytes=shape.recurrent_bytes // len(stateful) if at in stateful else 0,
        )
        for at, cache in enumerate(caches)
    )
    stored = sum(tensor.size_bytes for tensor in tensors)
    return Traffic(layers, dict(output), shape.vocab_size, stored)


def scaled(traffic: Traffic, file_bytes: int, quantization: str | None) -> Traffic:
    """The traffic of another variant of the same model, of which only name and size are known.

    All bytes change as the files do; the mix of types is the usual one of that name (the same types, when the name is
    unknown).
    """
    if not traffic.stored_bytes:
        return traffic
    factor = file_bytes / traffic.stored_bytes
    mix = type_mix(quantization)

    def convert(sizes: Mapping[str, int]) -> Mapping[str, int]:
        if mix is None:
            return {name: round(size * factor) for name, size in sizes.items()}
        total = sum(sizes.values()) * factor
        return {name: round(total * share) for name, share in mix.items()} if total else {}

    layers = tuple(
        replace(layer, dense=convert(layer.dense), experts=convert(layer.experts)) for layer in traffic.layers
    )
    return replace(traffic, layers=layers, output=convert(traffic.output), stored_bytes=file_bytes, guessed=True)


def elements_of(type_name: str, size_bytes: float) -> float:
    """Numbers in so many bytes of a tensor type."""
    kind = GgmlType[type_name]
    return size_bytes * kind.block_elements / kind.block_bytes


def _side(layer: LayerTraffic, experts: bool | None) -> LayerTraffic:
    if experts is None:
        return layer
    if experts:
        return LayerTraffic(dense={}, experts=layer.experts, graph=layer.graph / 2 if layer.experts else 0.0)
    return replace(layer, experts={}, graph=layer.graph / 2 if layer.experts else layer.graph)


def _expert_part(header: Header) -> float:
    used, count = _number(header, "expert_used_count"), header.expert_count
    return min(1.0, used / count) if used and count else 1.0


def _caches(header: Header, shape: Shape, tensors: Iterable[Tensor], blocks: int) -> list[CacheLayer | None]:
    """The cache each block attends to. The shape lists those of blocks that own one; later blocks may share them."""
    names: dict[int, set[str]] = {}
    for tensor in tensors:
        if match := _BLOCK.fullmatch(tensor.name):
            names.setdefault(int(match[1]), set()).add(match[2])
    heads = header.head_count_kv or (1,) * blocks
    attending = [
        at for at in range(blocks) if at < len(heads) and heads[at] and (at not in names or _attends(names[at]))
    ]
    if not shape.layers:
        attending = []
    elif not any("attn" in name for parts in names.values() for name in parts):
        attending = attending[: len(shape.layers)]
    caches: list[CacheLayer | None] = [None] * blocks
    for place, at in enumerate(attending):
        caches[at] = shape.layers[place % len(shape.layers)]
    return caches


def _attends(names: set[str]) -> bool:
    """Whether a block has attention with a cache: not where a fused matrix feeds a recurrent layer."""
    if any(name.startswith("attn_q.") or name.startswith(("attn_q_a.", "attn_q_b.")) for name in names):
        return True
    recurrent = any(name.startswith(("ssm_", "time_mix_", "shortconv.")) for name in names)
    return not recurrent and any(name.startswith(("attn_qkv.", "attn_kv")) for name in names)


def _attention_elements(header: Header, shape: Shape, at: int, cache: CacheLayer | None) -> int:
    """Query heads times what a head's key and value have; latent attention reads its one key as value, too."""
    if cache is None:
        return 0
    if not cache.value_elements:
        return 2 * shape.head_count * cache.key_elements
    kv_heads = (header.head_count_kv or ())[at : at + 1]
    groups = shape.head_count / kv_heads[0] if kv_heads and kv_heads[0] else 1.0
    return round(groups * (cache.key_elements + cache.value_elements))


def _number(header: Header, key: str) -> int:
    value = header.metadata.get(f"{header.architecture}.{key}")
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _sum(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(total)
