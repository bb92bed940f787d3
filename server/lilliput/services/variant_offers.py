"""From the variants of a model to offers that can be judged: their bytes by layer, and what a token reads of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from lilliput.fit import (
    NO_REPACKING,
    Offer,
    Repacking,
    copies_of,
    layout_of,
    scale_layout,
    scale_traffic,
    traffic_of,
)
from lilliput.gguf import GgmlType, Tensor, place_tensors
from lilliput.services.model_facts import ModelFacts

EVERY_TYPE = (
    "BF16",
    "Q8_0",
    "Q6_K",
    "Q5_K_M",
    "Q5_K_S",
    "Q5_1",
    "Q5_0",
    "Q4_K_M",
    "Q4_K_S",
    "IQ4_NL",
    "IQ4_XS",
    "MXFP4_MOE",
    "Q4_1",
    "Q4_0",
    "Q3_K_L",
    "Q3_K_M",
    "Q3_K_S",
    "IQ3_M",
    "IQ3_S",
    "IQ3_XS",
    "IQ3_XXS",
    "Q2_K",
    "Q2_K_S",
    "IQ2_M",
    "IQ2_S",
    "IQ2_XS",
    "IQ2_XXS",
    "IQ1_M",
    "IQ1_S",
    "TQ2_0",
    "TQ1_0",
)
"""What a quantization can make of a full-precision model."""

_ONLY_EXPERTS = {"MXFP4_MOE": GgmlType.MXFP4}
"""Quantizations that make of a model without experts only what another makes, too; and the type that tells."""

_KNOWN_MIXES = frozenset(EVERY_TYPE) | {"F16"}
_SAME_SIZE = 0.005
"""A file whose size is this near to the usual mixture's has that mixture: importance matrices change little of it."""

_ENDS = (("token_embd.weight",), ("output.weight",), ("token_embd.weight", "output.weight"))
_END_TYPES = tuple(GgmlType[name] for name in ("Q8_0", "Q6_K", "Q5_K", "Q5_0", "Q4_K", "Q4_0", "Q3_K", "Q2_K", "F16"))
"""What those who publish variants make of the embedding and the output instead: a third of a small model."""

_PADDING = 64
"""Bytes by which a file may grow or shrink besides when two of its matrices do."""

_SCALED_MARGIN = 0.15
"""How far the weights of one device may be off where the layout is another file's at this one's size.

Each mixture gives more bits to other tensors: the output, the first layers, the last.
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A variant as its place lists it; ``facts`` are known of those whose headers were read."""

    name: str
    quantization: str | None
    files: tuple[str, ...]
    file_bytes: int
    problem: str | None = None
    facts: ModelFacts | None = None
    exists: bool = True


def mixes_to_ask(entries: Sequence[Entry], *, every_type: bool) -> tuple[str, ...]:
    """The quantizations whose mixture of tensor types helps to judge these entries."""
    unread = {one.quantization for one in entries if one.facts is None and one.quantization in _KNOWN_MIXES}
    return tuple(kind for kind in ("F16", *EVERY_TYPE) if every_type or kind in unread)


def would_be(entries: Sequence[Entry], facts: ModelFacts, mixes: Mapping[str, tuple[Tensor, ...]]) -> tuple[Entry, ...]:
    """Entries for the variants that do not exist but could be made; their files would have the same header."""
    names = {one.name for one in entries} | {one.quantization for one in entries}
    return tuple(
        Entry(kind, kind, (), facts.header_bytes + _file_bytes(mixes[kind]), exists=False)
        for kind in EVERY_TYPE
        if kind in mixes and kind not in names and _is_of_its_own(kind, mixes[kind])
    )


def _is_of_its_own(kind: str, mix: Sequence[Tensor]) -> bool:
    return kind not in _ONLY_EXPERTS or any(tensor.type is _ONLY_EXPERTS[kind] for tensor in mix)


def tensor_types_of(entry: Entry, facts: ModelFacts, mixes: Mapping[str, tuple[Tensor, ...]]) -> frozenset[str]:
    """The names of the entry's tensor types: its own, its mixture's, or those of ``facts`` where neither is known."""
    if entry.facts is not None:
        return entry.facts.header.tensor_types
    mix = _mixture(entry, facts, mixes) or mixes.get(entry.quantization or "")
    return facts.header.tensor_types if mix is None else frozenset(tensor.type.name for tensor in mix)


def offer_of(
    entry: Entry,
    facts: ModelFacts,
    mixes: Mapping[str, tuple[Tensor, ...]],
    repacking: Repacking = NO_REPACKING,
) -> Offer:
    """The entry with its layout and traffic: its own, the usual mixture's, or those of ``facts`` at its size.

    ``repacking`` is what an engine copies of tensors of its types; where only the size is known, as much in proportion.
    """
    key = (entry.name, entry.file_bytes, repacking)
    known = facts.offers.get(key)
    if known is None:
        known = facts.offers[key] = _make_offer(entry, facts, mixes, repacking)
    return replace(known, files=entry.files, problem=entry.problem, exists=entry.exists)


def _mixture(entry: Entry, facts: ModelFacts, mixes: Mapping[str, tuple[Tensor, ...]]) -> tuple[Tensor, ...] | None:
    """The usual mixture where the entry has its size, or that with other ends where it has exactly theirs."""
    mix = mixes.get(entry.quantization or "")
    if mix is None:
        return None
    size, wanted = _file_bytes(mix), entry.file_bytes - facts.header_bytes
    if abs(size - wanted) <= _SAME_SIZE * (facts.header_bytes + size):
        return mix
    ends = [one for one in mix if one.name in _ENDS[-1]]
    for names, kind in product(_ENDS, _END_TYPES):
        others = {one.name: _as(one, kind) for one in ends if one.name in names}
        grown = sum(others[one.name].size_bytes - one.size_bytes for one in ends if one.name in others)
        if abs(size + grown - wanted) <= _PADDING:  # only then: to place hundreds of tensors takes some milliseconds
            placed = [others.get(one.name, one) for one in mix]
            found = place_tensors((one.name, one.shape, one.type) for one in placed)
            if _file_bytes(found) == wanted:
                return found
    return None


def _as(tensor: Tensor, kind: GgmlType) -> Tensor:
    """The tensor in another type, where its rows can be of it."""
    return tensor if tensor.shape[0] % kind.block_elements else replace(tensor, type=kind)


def _make_offer(
    entry: Entry, facts: ModelFacts, mixes: Mapping[str, tuple[Tensor, ...]], repacking: Repacking
) -> Offer:
    own, margin = entry.facts, 0.0
    bits = 8 * entry.file_bytes / facts.elements if facts.elements else None
    mix = None if own is not None else _mixture(entry, facts, mixes)
    if own is not None:
        layout, traffic, copies = own.layout, own.traffic, copies_of(own.parts, repacking)
    elif mix is not None:
        layout = layout_of(mix, facts.shape.block_count)
        layout = scale_layout(layout, min(layout.total_bytes, entry.file_bytes - facts.header_bytes))
        traffic, copies = traffic_of(replace(facts.header, tensors=mix)), copies_of((mix,), repacking)
        margin = 0.0 if facts.header_bytes + _file_bytes(mix) == entry.file_bytes else _SAME_SIZE
    else:
        weights = max(0, entry.file_bytes - facts.header_bytes)
        layout = scale_layout(facts.layout, weights)
        traffic = scale_traffic(facts.traffic, weights, entry.quantization)
        margin = _SCALED_MARGIN
        usual = mixes.get(entry.quantization or "")
        copies = copies_of(facts.parts if usual is None else (usual,), repacking)
        copies = copies.scaled(weights, facts.layout.total_bytes if usual is None else _file_bytes(usual))
    return Offer(
        name=entry.name,
        quantization=entry.quantization,
        files=entry.files,
        file_bytes=entry.file_bytes,
        layout=layout,
        traffic=traffic,
        bits_per_weight=bits,
        layout_margin=margin,
        header_bytes=facts.header_bytes if own is None else own.header_bytes,
        copies=copies,
    )


def _file_bytes(tensors: Sequence[Tensor]) -> int:
    """Tensor data with its padding."""
    return tensors[-1].offset_bytes + tensors[-1].size_bytes if tensors else 0
