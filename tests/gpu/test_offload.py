"""Models loaded onto the software device whole, by half and not at all: what lies where, against the dry run."""

from __future__ import annotations

from functools import cache

import pytest
from tests.gpu.load import Load, load
from tests.support.model import gemma_path, smollm2_path

from lilliput.gguf import FileSource, read_header
from lilliput.llama import Buffers, ContextSettings, ModelSettings, Point, run_dry

CONTEXT = ContextSettings(context_tokens=4096, max_sequences=4)
MIB = 1024**2
MODELS = {"smollm2": (smollm2_path, 30), "gemma": (gemma_path, 18)}
"""The file and how many layers it has; the output layer counts as one more."""

ALL, HALF, NONE = "all", "half", "none"
pytestmark = pytest.mark.timeout(600)  # Mesa compiles shaders for a minute or two when it meets them first


def settings(name: str, share: str) -> ModelSettings:
    path, layers = MODELS[name]
    # Mapped weights are told as the stretch of the file from first to last tensor: only without mapping are they exact.
    return ModelSettings(
        str(path()), gpu_layers={ALL: -1, HALF: layers // 2, NONE: 0}[share], extra_buffers=False, memory_map=False
    )


@cache
def loaded(name: str, share: str) -> Load:
    """One load for all tests that look at it."""
    return load(settings(name, share), CONTEXT)


def on_device(sizes: Buffers, kind: str) -> int:
    return int(getattr(sizes, kind).get("Vulkan0", 0))


def on_cpu(sizes: Buffers, kind: str) -> int:
    """Memory of the host; "Vulkan_Host" is the part of it that the device can reach."""
    return sum(size for buffer, size in getattr(sizes, kind).items() if buffer != "Vulkan0")


every_load = pytest.mark.parametrize(
    ("name", "share"), [(name, share) for name in MODELS for share in (ALL, HALF, NONE)]
)
every_model = pytest.mark.parametrize("name", list(MODELS))


@every_load
def test_tokens_are_generated(name: str, share: str) -> None:
    text = loaded(name, share).text
    assert text.startswith(" a ")
    assert len(text.split()) >= 3


@every_model
def test_layers_lie_where_they_were_asked_to(name: str) -> None:
    whole, half, none = (loaded(name, share).buffers for share in (ALL, HALF, NONE))
    assert on_device(whole, "weights") > on_device(half, "weights") > 0 == on_device(none, "weights")
    with FileSource(MODELS[name][0]()) as file:
        assert on_cpu(none, "weights") == pytest.approx(read_header(file).weights_bytes, abs=0.02 * MIB)
    assert on_cpu(none, "weights") > on_cpu(half, "weights") > on_cpu(whole, "weights") > 0, "the token table stays"


@every_model
def test_the_cache_lies_with_its_layers(name: str) -> None:
    whole, half, none = (loaded(name, share).buffers for share in (ALL, HALF, NONE))
    assert on_cpu(whole, "kv") == 0 == on_device(none, "kv")
    assert on_device(whole, "kv") == on_cpu(none, "kv") == whole.cache_bytes
    assert on_device(half, "kv") + on_cpu(half, "kv") == half.cache_bytes == whole.cache_bytes
    assert min(on_device(half, "kv"), on_cpu(half, "kv")) > 0.3 * half.cache_bytes


@every_load
async def test_the_dry_run_tells_the_same_working_memory_per_device(name: str, share: str) -> None:
    ((dry,), _) = await run_dry([Point(settings(name, share), CONTEXT)])
    real = loaded(name, share).buffers
    assert dry.buffers is not None
    assert dict(dry.buffers.compute) == dict(real.compute)
    assert dict(dry.buffers.output) == dict(real.output)
    assert dry.buffers.caches == real.caches


@every_load
def test_a_load_gives_back_what_it_took(name: str, share: str) -> None:
    before, made, after = loaded(name, share).free_bytes
    assert made <= before == after
