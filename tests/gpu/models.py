"""The models that are loaded onto the device, each load once for all tests that look at it."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from tests.gpu.load import Load, load
from tests.support.model import gemma_path, smollm2_path
from tests.support.variants import Variants, make_variants

from lilliput.llama import Buffers, ContextSettings, ModelSettings

DEVICE = "Vulkan0"
CONTEXT_TOKENS, SLOTS = 4096, 4
LAYERS = {"smollm2": 30, "smollm2-q8_0": 30, "gemma": 18}
"""How many layers the models have; the output counts as one more."""

SEQUENCES = {"smollm2": 28, "smollm2-q8_0": 28, "gemma": 4}
"""Those of a context with ``SLOTS``: 24 more keep prefixes, except where a window gives each a cache of its own."""

ALL, HALF, NONE = "all", "half", "none"
EVERY_LOAD = [(name, share) for name in LAYERS for share in (ALL, HALF, NONE)]

_directory = tempfile.TemporaryDirectory(prefix="lilliput-gpu-")


@cache
def variants() -> Variants:
    """Variants of SmolLM2, made when they are first asked for and removed when this process ends."""
    return make_variants(Path(_directory.name))


def path_of(name: str) -> Path:
    """The file of a model."""
    if name == "smollm2-q8_0":
        return variants().path("Q8_0")
    return gemma_path() if name == "gemma" else smollm2_path()


def layers_of(name: str, share: str) -> int:
    """How many layers go to the device."""
    return {ALL: LAYERS[name] + 1, HALF: LAYERS[name] // 2, NONE: 0}[share]


def settings(name: str, share: str) -> ModelSettings:
    """One load. Mapped weights are told as a stretch of the file: only without mapping are they exact."""
    return ModelSettings(
        str(path_of(name)), gpu_layers=layers_of(name, share), rung="no-extra-buffers", memory_map=False
    )


def context(name: str) -> ContextSettings:
    """The context that a daemon gives the model with ``SLOTS``."""
    sequences = SEQUENCES[name]
    return ContextSettings(CONTEXT_TOKENS, sequences, batch_tokens=512, ubatch_tokens=512, output_rows=sequences)


@cache
def loaded(name: str, share: str) -> Load:
    """One load for all tests that look at it."""
    return load(settings(name, share), context(name))


def on_device(sizes: Buffers, kind: str) -> int:
    """Bytes of one kind of buffer on the device."""
    return int(getattr(sizes, kind).get(DEVICE, 0))


def on_cpu(sizes: Buffers, kind: str) -> int:
    """Memory of the host; "Vulkan_Host" is the part of it that the device can reach."""
    return sum(size for buffer, size in getattr(sizes, kind).items() if buffer != DEVICE)
