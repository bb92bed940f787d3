"""From what is known of a model and a machine to the options among which a choice is made."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lilliput.fit.calibration import Calibration
from lilliput.fit.layout import Layout
from lilliput.fit.need import ESTIMATE_MARGIN, MemoryNeed, kv_by_block
from lilliput.fit.options import RAM, Candidate, Offload, Option, Setting
from lilliput.fit.placement import Part, homes, place, shares_of
from lilliput.fit.quality import Quality, QualityTable, combine
from lilliput.fit.resident import NO_COPIES, Copies
from lilliput.fit.shape import Shape
from lilliput.fit.speed import DeviceShare, SpeedForecast, predict_split
from lilliput.fit.traffic import Traffic

DEPTH_TOKENS = 512
"""Tokens in the context when the speed of generation is told."""


@dataclass(frozen=True, slots=True)
class Device:
    """An accelerator: its ``share`` of the offloaded layers, what its driver takes, and what computing costs there.

    Tensors over ``max_tensor_bytes`` stay in main memory (None: there is no such bound).
    """

    name: str
    share: float
    overhead_bytes: int
    calibration: Calibration
    max_tensor_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Scratch:
    """What a context takes beside the weights, in bytes: caches in all, scratch and output rows by device.

    ``estimated`` says that a formula told it and not llama.cpp.
    """

    cache_bytes: int
    compute: Mapping[str, int]
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Offer:
    """One variant before it is judged: ``name`` is unique in its plan, ``problem`` says why it cannot be loaded.

    ``layout_margin`` is how far the weights of one device may be off, as a fraction, where the layout is not the file's
    own; the weights of all devices together are exact.
    ``header_bytes`` of its files are no tensors; ``copies`` are what the CPU backend makes of them.
    """

    name: str
    quantization: str | None
    files: tuple[str, ...]
    file_bytes: int
    layout: Layout
    traffic: Traffic | None = None
    bits_per_weight: float | None = None
    problem: str | None = None
    exists: bool = True
    layout_margin: float = 0.0
    header_bytes: int = 0
    copies: Copies = NO_COPIES


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a model is to run. ``rooms`` are bytes by device; ``sequences`` are those of a context beyond its slots.

    ``scratch`` is known by setting (with the number of offloaded layers: none, some or all of them); ``overhead_bytes``
    is what a process takes beside, and ``corrections`` what real loads have taught to add to it, by offload;
    ``beside_bytes`` are the files that are loaded with the model.
    """

    shape: Shape
    quality: QualityTable
    cpu: Calibration
    rooms: Mapping[str, int]
    scratch: Mapping[tuple[Setting, Offload], Scratch]
    devices: tuple[Device, ...] = ()
    sequences: int = 0
    ubatch_tokens: int = 512
    overhead_bytes: int = 0
    gpu_layers: int | None = None
    beside_bytes: int = 0
    corrections: Mapping[Offload, int] = field(default_factory=dict)
    _kv: dict[Setting, tuple[int, ...]] = field(default_factory=dict, compare=False)
    _forecasts: dict[tuple[str, str, int, int], SpeedForecast] = field(default_factory=dict, compare=False)


def make_candidate(offer: Offer, settings: Sequence[Setting], around: Surroundings) -> Candidate:
    """The variant with every way to load it: each setting without offload, with the most layers that fit, and with all.

    Settings of which no scratch is known are left out: llama.cpp refuses them.
    """
    options = tuple(option for setting in settings for option in _options(offer, setting, around))
    return Candidate(offer.name, offer.quantization, offer.file_bytes, options, offer.problem, offer.exists)


def _options(offer: Offer, setting: Setting, around: Surroundings) -> Iterator[Option]:
    quality = _quality(offer, setting, around)
    count = around.shape.block_count
    pinned = around.gpu_layers
    if pinned is not None:
        asked = min(max(pinned, 0), count + 1) if around.devices else 0
        yield from _option(offer, replace(setting, gpu_layers=asked), quality, around)
        return
    yield from _option(offer, setting, quality, around)
    if not around.devices:
        return
    whole = replace(setting, gpu_layers=count + 1)
    yield from _option(offer, whole, quality, around)
    layers = range(1, count + 1)
    most = bisect_right(layers, 0, key=lambda some: _over(offer, replace(setting, gpu_layers=some), around))
    if most > 0:
        yield from _option(offer, replace(setting, gpu_layers=most), quality, around)
    if offer.layout.has_experts:
        least = bisect_left(layers, 0, key=lambda some: -_over(offer, replace(whole, cpu_expert_layers=some), around))
        if least < count:
            yield from _option(offer, replace(whole, cpu_expert_layers=least + 1), quality, around)


def _over(offer: Offer, setting: Setting, around: Surroundings) -> int:
    """1 when some accelerator would hold more than its room, else 0."""
    needs = _needs(offer, setting, around) or {}
    margins = _margins(offer, setting, needs, around)
    sizes = {name: need.total_bytes + margins.get(name, 0) for name, need in needs.items() if name != RAM}
    return int(any(size > around.rooms.get(name, 0) for name, size in sizes.items()))


def _margins(offer: Offer, setting: Setting, needs: Mapping[str, MemoryNeed], around: Surroundings) -> dict[str, int]:
    """How far the needs may be off, by device; empty where none is an estimate. All weights in one place are exact."""
    if not needs:
        return {}
    estimated = _scratch(setting, around, offload_of(setting, around.shape.block_count)).estimated
    rest, weights = ESTIMATE_MARGIN if estimated else 0.0, offer.layout_margin if setting.gpu_layers else 0.0
    if not rest and not weights:
        return {}
    return {
        name: round(weights * need.weights_bytes + rest * (need.total_bytes - need.weights_bytes))
        for name, need in needs.items()
    }


def _option(offer: Offer, setting: Setting, quality: Quality, around: Surroundings) -> Iterator[Option]:
    needs = _needs(offer, setting, around)
    if needs is None:
        return
    forecast = _forecast(offer, setting, around)
    margins = _margins(offer, setting, needs, around)
    yield Option(
        setting=setting,
        needs=needs,
        offload=offload_of(setting, around.shape.block_count),
        generation=forecast.generation if forecast else None,
        prompt=forecast.prompt if forecast else None,
        quality=quality,
        estimated=bool(margins),
        tensor_split=split_of(around.devices) if setting.gpu_layers else (),
        margins=margins,
    )


def share_out(devices: Sequence[Device], rooms: Mapping[str, int]) -> tuple[Device, ...]:
    """The devices with shares by what may be used of each (bytes by device)."""
    shares = shares_of([rooms.get(device.name, 0) for device in devices])
    return tuple(replace(device, share=share) for device, share in zip(devices, shares, strict=True))


def split_of(devices: Sequence[Device]) -> tuple[float, ...]:
    """The shares as llama.cpp is told them: there is nothing to tell of a single device."""
    return tuple(device.share for device in devices) if len(devices) > 1 else ()


def offload_of(setting: Setting, block_count: int) -> Offload:
    """How much of a model with so many layers the setting puts on accelerators."""
    if setting.gpu_layers <= 0:
        return "none"
    whole = setting.gpu_layers > block_count and not setting.cpu_expert_layers
    return "full" if whole else "partial"


def _scratch(setting: Setting, around: Surroundings, offload: Offload) -> Scratch:
    return around.scratch[replace(setting, gpu_layers=0, cpu_expert_layers=0), offload]


def _needs(offer: Offer, setting: Setting, around: Surroundings) -> dict[str, MemoryNeed] | None:
    """What each device holds; None for a setting that llama.cpp refuses."""
    count = around.shape.block_count
    offload = offload_of(setting, count)
    try:
        scratch = _scratch(setting, around, offload)
    except KeyError:
        return None
    shares = [(device.name, device.share) for device in around.devices]
    places = homes(count, shares, setting.gpu_layers)
    limits = {one.name: one.max_tensor_bytes for one in around.devices if one.max_tensor_bytes is not None}
    parts = place(offer.layout, _kv_blocks(setting, scratch, around), places, setting.cpu_expert_layers, limits)
    padding = max(0, offer.file_bytes - offer.header_bytes - offer.layout.total_bytes)
    # Beside an accelerator llama.cpp keeps the CPU's layers in the driver's host buffers or mapped: nothing is copied.
    copies = offer.copies if offload == "none" else NO_COPIES
    corrected = max(0, around.overhead_bytes + around.corrections.get(offload, 0))
    overheads = {RAM: corrected, **{device.name: device.overhead_bytes for device in around.devices}}
    needs = {}
    for name in dict.fromkeys((RAM, *parts, *scratch.compute)):  # scratch may be needed where no layer lies
        part = parts.get(name, Part())
        need = MemoryNeed(part.weights_bytes, part.kv_bytes, scratch.compute.get(name, 0), overheads[name])
        needs[name] = _on_cpu(need, padding, copies) if name == RAM else need
    return _with_files_beside(needs, setting, around)


def _on_cpu(need: MemoryNeed, padding_bytes: int, copies: Copies) -> MemoryNeed:
    """The need of main memory with what lies between the tensors, and with copies."""
    weights = need.weights_bytes + padding_bytes + copies.added_bytes
    return replace(need, weights_bytes=weights, copied_bytes=copies.copied_bytes, idle_bytes=copies.idle_bytes)


def in_unified_memory(needs: Mapping[str, MemoryNeed]) -> dict[str, MemoryNeed]:
    """The needs where devices have no memory of their own: what they hold lies in main memory, and counts there."""
    every = needs.values()
    ram = MemoryNeed(
        sum(need.weights_bytes for need in every),
        sum(need.kv_bytes for need in every),
        sum(need.compute_bytes for need in every),
        sum(need.overhead_bytes for need in every),
        sum(need.copied_bytes for need in every),
        sum(need.idle_bytes for need in every),
    )
    return {**needs, RAM: ram}


def _with_files_beside(needs: dict[str, MemoryNeed], setting: Setting, around: Surroundings) -> dict[str, MemoryNeed]:
    """The needs with the other files' weights: on the first accelerator that holds layers, else in main memory."""
    if not around.beside_bytes:
        return needs
    holders = (device.name for device in around.devices if setting.gpu_layers > 0 and device.name in needs)
    home = next(holders, RAM)
    weights = needs[home].weights_bytes + around.beside_bytes
    return {**needs, home: replace(needs[home], weights_bytes=weights)}


def _kv_blocks(setting: Setting, scratch: Scratch, around: Surroundings) -> Sequence[int]:
    """Cache bytes by layer: the formula's proportions, at the sum that llama.cpp told."""
    key = replace(setting, gpu_layers=0, cpu_expert_layers=0)
    known = around._kv.get(key)
    if known is None:
        sequences = setting.slots + around.sequences
        blocks = kv_by_block(
            around.shape,
            setting.context_tokens,
            sequences,
            ubatch_tokens=around.ubatch_tokens,
            kv_type=setting.kv_type,
        )
        total = sum(blocks)
        exact = [size * scratch.cache_bytes // total if total else 0 for size in blocks]
        if exact:
            exact[-1] += scratch.cache_bytes - sum(exact)
        known = around._kv[key] = tuple(exact)
    return known


def _quality(offer: Offer, setting: Setting, around: Surroundings) -> Quality:
    table, architecture = around.quality, around.shape.architecture
    variant = table.of(offer.quantization, file_bits_per_weight=offer.bits_per_weight, architecture=architecture)
    if setting.kv_type in ("f32", "f16", "bf16"):
        return variant
    return combine(variant, table.of_kv(setting.kv_type, architecture))


def _forecast(offer: Offer, setting: Setting, around: Surroundings) -> SpeedForecast | None:
    """The speed does not depend on the size of the context, only on what of it is filled."""
    if offer.traffic is None:
        return None
    key = (offer.name, setting.kv_type, setting.gpu_layers, setting.cpu_expert_layers)
    known = around._forecasts.get(key)
    if known is None:
        shares = _shares(offer.traffic, setting, around)
        known = around._forecasts[key] = predict_split(shares, DEPTH_TOKENS, kv_type=setting.kv_type)
    return known


def _shares(traffic: Traffic, setting: Setting, around: Surroundings) -> list[DeviceShare]:
    """The layers of each device as it reads them for a token; experts that stay behind are read in main memory."""
    count = len(traffic.layers)
    places = homes(count, [(device.name, device.share) for device in around.devices], setting.gpu_layers)
    costs = {RAM: around.cpu, **{device.name: device.calibration for device in around.devices}}
    shares: dict[str, Traffic] = {}
    for name, first, end in _runs(places[:-1], setting.cpu_expert_layers):
        split = name != RAM and end <= setting.cpu_expert_layers
        _join(shares, name, traffic.part(first, end, output=False, experts=False if split else None))
        if split:
            _join(shares, RAM, traffic.part(first, end, output=False, experts=True))
    _join(shares, places[-1], traffic.part(count, count, output=True))
    return [DeviceShare(part, costs[name]) for name, part in shares.items()]


def _runs(places: Sequence[str], border: int) -> Iterator[tuple[str, int, int]]:
    """Layers that follow each other on one device, as (device, first, end); a run ends at ``border``, too."""
    first = 0
    for at in range(1, len(places) + 1):
        if at == len(places) or places[at] != places[first] or at == border:
            yield places[first], first, at
            first = at


def _join(shares: dict[str, Traffic], name: str, part: Traffic) -> None:
    shares[name] = shares[name].joined(part) if name in shares else part
