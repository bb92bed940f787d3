"""The ways to load a model that a plan looks at, and what llama.cpp is asked about each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from lilliput.fit import RAM, Device, Offload, Scratch, Setting, Shape, Wish, estimate_need, split_of
from lilliput.llama import POOLED_SEQUENCES, Buffers, ContextSettings, ModelSettings, Point, pooled_context

IDLE_SEQUENCES = 24
"""KV sequences beyond the slots, kept for their prefixes."""

_KV_TYPES = ("f16", "q8_0", "q4_0")
_LEAST_CONTEXT_TOKENS = 2048
_LEAST_ASKED_TOKENS = 512


def idle_sequences(shape: Shape) -> int:
    """Sequences beyond the slots: none where each takes memory of its own (recurrent state, windows of attention)."""
    windows = any(layer.window_tokens is not None for layer in shape.layers)
    return 0 if windows or shape.recurrent_bytes else IDLE_SEQUENCES


def settings_of(shape: Shape, wish: Wish) -> tuple[Setting, ...]:
    """Contexts from the wanted one down by halves, KV types from the plainest, fewer slots where that saves memory.

    What is pinned comes in one value only.
    """
    contexts = [wish.context_tokens]
    while not wish.context_pinned and contexts[-1] // 2 >= _LEAST_CONTEXT_TOKENS:
        contexts.append(contexts[-1] // 2)
    if wish.context_pinned:
        contexts += _smaller(wish.context_tokens)
    kinds = _KV_TYPES if wish.kv_type is None else (wish.kv_type.lower(),)
    slots = [wish.slots]
    if not wish.slots_pinned and wish.slots > 1 and not idle_sequences(shape):
        slots.append(1)
    return tuple(
        Setting(tokens, count, kind) for count in slots for tokens in dict.fromkeys(contexts) for kind in kinds
    )


def _smaller(tokens: int) -> list[int]:
    """Contexts below a pinned one: never taken, but what would fit is told."""
    found: list[int] = []
    while tokens // 2 >= _LEAST_ASKED_TOKENS and len(found) < 4:
        tokens //= 2
        found.append(tokens)
    return found


def pooled_settings_of(shape: Shape, wish: Wish) -> tuple[Setting, ...]:
    """As ``settings_of`` for a context that embeds: the number of inputs in a pass does not depend on the wish.

    A longer context than the model was trained for is of no use to it.
    """
    most = min(wish.context_tokens, shape.context_length or wish.context_tokens)
    pinned = replace(wish, context_tokens=most, slots=POOLED_SEQUENCES, slots_pinned=True, kv_type="f16")
    return settings_of(shape, pinned)


def points_of(
    settings: Sequence[Setting],
    shape: Shape,
    devices: Sequence[Device],
    *,
    ubatch_tokens: int,
    pooled: bool = False,
    flash_attention: bool | None = None,
) -> dict[tuple[Setting, Offload], Point]:
    """What to ask llama.cpp: every setting without offload and, where there are devices, with some and all layers.

    ``pooled``: of contexts that embed. A quantized KV cache needs flash attention, whatever else is wanted.
    """
    layers: dict[Offload, int] = {"none": 0}
    if devices:
        layers |= {"partial": shape.block_count // 2 + 1, "full": shape.block_count + 1}
    return {
        (setting, offload): Point(
            ModelSettings("", gpu_layers=count, tensor_split=split_of(devices) if count else ()),
            pooled_context(setting.context_tokens, causal=not shape.encoder, kv_type=setting.kv_type)
            if pooled
            else ContextSettings(
                context_tokens=setting.context_tokens,
                max_sequences=setting.slots + idle_sequences(shape),
                output_rows=setting.slots + idle_sequences(shape),
                batch_tokens=ubatch_tokens,
                ubatch_tokens=ubatch_tokens,
                flash_attention=flash_attention if setting.plain_kv else None,
                kv_type=setting.kv_type,
            ),
        )
        for offload, count in layers.items()
        for setting in settings
    }


def scratch_of(
    points: Mapping[tuple[Setting, Offload], Point],
    buffers: Mapping[Point, Buffers],
    devices: Sequence[Device],
    vocab_size: int = 0,
) -> dict[tuple[Setting, Offload], Scratch]:
    """What llama.cpp told, by setting and offload; what it refused is missing.

    A context that embeds keeps room for the logits of every token of a pass, which a dry run does not tell; measured
    on an encoder of 30,522 tokens: 62 MiB for 512.
    """
    names = {device.name for device in devices}
    found = {}
    for key, point in points.items():
        told = buffers.get(point)
        if told is None:
            continue
        rows = point.context.batch_tokens if point.context.pooling is not None else 0
        compute = {RAM: sum(told.output.values()) + 4 * rows * vocab_size}
        for buffer, size in told.compute.items():
            device = buffer if buffer in names else RAM  # CPU, and pinned host memory of any driver
            compute[device] = compute.get(device, 0) + size
        found[key] = Scratch(told.cache_bytes, compute)
    return found


def estimated_scratch(
    settings: Sequence[Setting], shape: Shape, *, ubatch_tokens: int
) -> dict[tuple[Setting, Offload], Scratch]:
    """What the formula says, for architectures that llama.cpp does not know."""
    found: dict[tuple[Setting, Offload], Scratch] = {}
    for setting in settings:
        need = estimate_need(
            shape,
            0,
            setting.context_tokens,
            setting.slots + idle_sequences(shape),
            ubatch_tokens=ubatch_tokens,
            kv_type=setting.kv_type,
        )
        found[setting, "none"] = Scratch(need.kv_bytes, {RAM: need.compute_bytes}, estimated=True)
    return found


def on_absent_devices(
    scratch: Mapping[tuple[Setting, Offload], Scratch], devices: Sequence[Device]
) -> dict[tuple[Setting, Offload], Scratch]:
    """The same for accelerators that this build lacks: scratch as on the CPU, on every device, labelled an estimate."""
    found = dict(scratch)
    for (setting, _), told in scratch.items():
        compute = dict.fromkeys((RAM, *(device.name for device in devices)), told.compute[RAM])
        for offload in ("partial", "full"):
            found[setting, offload] = replace(told, compute=compute, estimated=True)
    return found
