"""The only door to llama.cpp.

Owns every call into ``llama_cpp``: the library and its log, models, contexts, batches, samplers and grammars, each C
handle freed exactly once. Must not know sequences of requests, processes or HTTP. Importing this package is free: it
exports plain values; the submodules ``library``, ``model``, ``context``, ``sampler`` and ``grammar`` load the shared
library and belong in child processes.
"""

from lilliput.llama.buffers import Buffers, CacheSize
from lilliput.llama.build import Build, build_digest, read_build
from lilliput.llama.dry_run_values import DryResult, Point
from lilliput.llama.dry_runs import run_dry
from lilliput.llama.rungs import RUNGS, Rung, rungs_of
from lilliput.llama.sampler_values import SAMPLERS, SamplerSettings
from lilliput.llama.tune_values import TUNE_CONTEXTS, TUNE_ROOMS, TUNE_WIDTHS, TuneRequest
from lilliput.llama.values import POOLED_SEQUENCES, ContextSettings, ModelSettings, Rope, RopeScaling, pooled_context

__all__ = [
    "POOLED_SEQUENCES",
    "RUNGS",
    "SAMPLERS",
    "TUNE_CONTEXTS",
    "TUNE_ROOMS",
    "TUNE_WIDTHS",
    "Buffers",
    "Build",
    "CacheSize",
    "ContextSettings",
    "DryResult",
    "ModelSettings",
    "Point",
    "Rope",
    "RopeScaling",
    "Rung",
    "SamplerSettings",
    "TuneRequest",
    "build_digest",
    "pooled_context",
    "read_build",
    "run_dry",
    "rungs_of",
]
