"""Predicted and measured memory of single loads."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from tests.accuracy.settings import STEPS, LoadSetting
from tests.accuracy.variants import Source

from lilliput.fit.resident import HeldWeights, Repacking, Resident, hold_weights, overhead_bytes
from lilliput.gguf import GgmlType, Header, Tensor, place_tensors, write_stand_in
from lilliput.llama import Buffers, ModelSettings, Point, Rung, run_dry
from lilliput.llama.load_values import Loaded, LoadRequest
from lilliput.units import MIB

PARTS = ("weights", "kv", "compute", "output", "pss")
_BUFFER_BOUND = (0.01, 4 * MIB)
_PSS_BOUND = (0.05, 32 * MIB)
_DRY_TIMEOUT_S = 120.0
_LOAD_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of the buffers, and the process's proportional set size (None where the system does not count it)."""

    weights: int
    kv: int
    compute: int
    output: int
    pss: int | None


@dataclass(frozen=True, slots=True)
class Row:
    """One load of one variant."""

    model: str
    variant: str
    setting: LoadSetting
    predicted: Sizes
    measured: Sizes

    def difference(self, part: str) -> int | None:
        """Predicted less measured bytes."""
        predicted, measured = getattr(self.predicted, part), getattr(self.measured, part)
        return None if predicted is None or measured is None else predicted - measured

    def excess(self, part: str) -> float | None:
        """The difference in parts of what is allowed: above 1 the bound is broken."""
        difference = self.difference(part)
        if difference is None:
            return None
        fraction, least_bytes = _PSS_BOUND if part == "pss" else _BUFFER_BOUND
        allowed: float = max(fraction * getattr(self.measured, part), least_bytes)
        return abs(difference) / allowed


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is known of a model's variants before any is made: dry runs over its header alone."""

    header: Header
    repacking: Repacking
    buffers: Mapping[tuple[LoadSetting, bool], Buffers]
    tensors: Mapping[str, tuple[Tensor, ...]]

    def sizes(self, kind: str, setting: LoadSetting) -> Sizes:
        """The prediction for one load."""
        tensors = self.tensors[kind]
        weights = hold_weights([tensors], self.repacking)
        made, touched = self.buffers[setting, False], self.buffers[setting, True]
        output = sum(made.output.values())
        resident = Resident(
            weights=weights,
            kv_bytes=made.cache_bytes,
            compute_bytes=sum(touched.compute.values()),
            output_bytes=output,
            overhead_bytes=overhead_bytes(self.header, tensors, ubatch_tokens=setting.ubatch_tokens),
        )
        return Sizes(_all(weights), made.cache_bytes, sum(made.compute.values()), output, resident.pss_bytes)


def _all(weights: HeldWeights) -> int:
    return weights.mapped_bytes + weights.copied_bytes


async def forecast(
    source: Source, kinds: Iterable[str], settings: Iterable[LoadSetting], repacking: Repacking
) -> Forecast:
    """Ask llama.cpp about every setting and kind, by a stand-in of the model in half precision."""
    header = source.header()
    half = place_tensors(
        (one.name, one.shape, one.type if one.type is GgmlType.F32 else GgmlType.F16) for one in header.tensors
    )
    asked = [(setting, touched) for setting in dict.fromkeys(settings) for touched in (False, True)]
    quantized = [kind for kind in kinds if kind != source.original]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "stand-in.gguf"
        write_stand_in(replace(header, tensors=half), path)
        model = ModelSettings(str(path), gpu_layers=0)
        points = [Point(model, setting.context(touched=touched)) for setting, touched in asked]
        planned, mixes = await run_dry(points, quantized, timeout_s=_DRY_TIMEOUT_S)
    buffers = {}
    for key, result in zip(asked, planned, strict=True):
        assert result.buffers is not None, result.error
        buffers[key] = result.buffers
    tensors = {source.original: header.tensors}
    for mix in mixes:
        assert mix.quantization is not None
        assert mix.tensor_types is not None, mix.error
        tensors[mix.quantization] = _retyped(half, mix.tensor_types)
    return Forecast(header, repacking, buffers, tensors)


def _retyped(tensors: Sequence[Tensor], types: Mapping[str, str]) -> tuple[Tensor, ...]:
    """The planned file's tensors, in the order in which llama.cpp writes them."""
    shapes = {one.name: one.shape for one in tensors}
    return place_tensors((name, shapes[name], GgmlType[kind]) for name, kind in types.items())


def measure(path: Path, setting: LoadSetting, *, rung: Rung) -> Sizes | None:
    """Load the file and use it in a process of its own; None when that process crashed."""
    model = ModelSettings(str(path), gpu_layers=0, rung=rung)
    done = subprocess.run(
        [sys.executable, "-m", "lilliput.llama.measure_load"],
        input=msgspec.json.encode(LoadRequest(model, setting.context(), setting.slots, STEPS)),
        env=os.environ | {"GGML_NO_BACKTRACE": "1"},
        capture_output=True,
        timeout=_LOAD_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        return None
    loaded = msgspec.json.decode(done.stdout, type=Loaded)
    if loaded.buffers is None or loaded.used is None:
        raise RuntimeError(f"{path.name} could not be loaded: {loaded.error}")
    buffers = loaded.buffers
    return Sizes(
        weights=sum(buffers.weights.values()),
        kv=sum(buffers.kv.values()),
        compute=sum(buffers.compute.values()),
        output=sum(buffers.output.values()),
        pss=loaded.used.pss_bytes,
    )
