"""Models loaded onto the software device whole, by half and not at all: what lies where, against the dry run."""

from __future__ import annotations

import pytest
from tests.gpu.models import ALL, EVERY_LOAD, HALF, LAYERS, NONE, context, loaded, on_cpu, on_device, path_of, settings

from lilliput.gguf import FileSource, read_header
from lilliput.llama import Point, run_dry
from lilliput.units import MIB

pytestmark = pytest.mark.timeout(600)  # Mesa compiles shaders for a minute or two when it meets them first

every_load = pytest.mark.parametrize(("name", "share"), EVERY_LOAD)
every_model = pytest.mark.parametrize("name", list(LAYERS))


@every_load
def test_tokens_are_generated(name: str, share: str) -> None:
    text = loaded(name, share).text
    assert text.startswith(" a ")
    assert len(text.split()) >= 3


@every_model
def test_layers_lie_where_they_were_asked_to(name: str) -> None:
    whole, half, none = (loaded(name, share).buffers for share in (ALL, HALF, NONE))
    assert on_device(whole, "weights") > on_device(half, "weights") > 0 == on_device(none, "weights")
    with FileSource(path_of(name)) as file:
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
    ((dry,), _) = await run_dry([Point(settings(name, share), context(name))])
    real = loaded(name, share).buffers
    assert dry.buffers is not None
    assert dict(dry.buffers.compute) == dict(real.compute)
    assert dict(dry.buffers.output) == dict(real.output)
    assert dry.buffers.caches == real.caches
    assert (on_device(real, "compute") > 0) == (share != NONE), "without layers the device is left alone"


@every_load
def test_a_load_gives_back_what_it_took(name: str, share: str) -> None:
    before, made, after = loaded(name, share).free_bytes
    assert made <= before == after
