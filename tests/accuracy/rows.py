"""Predicted and measured memory of single loads."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec
from tests.accuracy.planned import VariantPlans
from tests.accuracy.settings import STEPS, LoadSetting

from lilliput.llama import ContextSettings, ModelSettings, Rung
from lilliput.llama.load_values import Loaded, LoadRequest
from lilliput.units import MIB

PARTS = ("weights", "kv", "compute", "pss")
_BUFFER_BOUND = (0.01, 4 * MIB)
_PSS_BOUND = (0.05, 32 * MIB)
_LOAD_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of the buffers, and the process's proportional set size (None where the system does not count it)."""

    weights: int
    kv: int
    compute: int
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


async def predict(plans: VariantPlans, kind: str, setting: LoadSetting) -> Sizes:
    """What the plan says of one load; of scratch the process shows only what its passes use."""
    told, used = await plans.of(kind, setting), await plans.of(kind, setting, used=True)
    return Sizes(told.held, told.kv, told.compute, told.pss - told.compute + used.compute)


def measure(path: Path, context: ContextSettings, rung: Rung) -> Sizes | None:
    """Load the file and use it in a process of its own; None when that process crashed."""
    model = ModelSettings(str(path), gpu_layers=0, rung=rung)
    done = subprocess.run(
        [sys.executable, "-m", "lilliput.llama.measure_load"],
        input=msgspec.json.encode(LoadRequest(model, context, context.max_sequences, STEPS)),
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
        compute=sum(buffers.compute.values()) + sum(buffers.output.values()),
        pss=loaded.used.pss_bytes,
    )


async def load_row(plans: VariantPlans, model: str, kind: str, path: Path, setting: LoadSetting, rung: Rung) -> Row:
    """One load beside its plan; raises RuntimeError when it crashed."""
    predicted = await predict(plans, kind, setting)
    measured = measure(path, plans.context(kind, setting), rung)
    if measured is None:
        raise RuntimeError(f"llama.cpp crashed with {path.name} at {setting}")
    return Row(model, kind, setting, predicted, measured)
