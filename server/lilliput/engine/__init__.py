"""The engine: one worker process per loaded variant, with continuous batching.

Owns sequences, the scheduler and the prefix cache (pure), the loop that runs them, the wire between worker and
daemon, and the daemon-side handle. Must not know models by name, plan memory, or know HTTP. What is exported here is
the daemon's side; ``worker`` is the other one and runs in a process of its own.
"""

from lilliput.engine.counters import GAP_BOUNDS_S
from lilliput.engine.handle import Engine, EngineLoad, error_of
from lilliput.engine.meter import EngineStats
from lilliput.engine.pooled_call import Vectors
from lilliput.engine.process import SpareWorker, worker_environment
from lilliput.engine.safety import PROVING_TOKENS, Verdicts, climb_down, crashed, rungs_from, verdict_key
from lilliput.engine.stream import EventStream
from lilliput.engine.wire import (
    Accepted,
    Done,
    Draft,
    Embed,
    Event,
    Failed,
    PrefixDisk,
    Rank,
    Ready,
    Role,
    Start,
    Submit,
    Text,
    TokenReport,
)

__all__ = [
    "GAP_BOUNDS_S",
    "PROVING_TOKENS",
    "Accepted",
    "Done",
    "Draft",
    "Embed",
    "Engine",
    "EngineLoad",
    "EngineStats",
    "Event",
    "EventStream",
    "Failed",
    "PrefixDisk",
    "Rank",
    "Ready",
    "Role",
    "SpareWorker",
    "Start",
    "Submit",
    "Text",
    "TokenReport",
    "Vectors",
    "Verdicts",
    "climb_down",
    "crashed",
    "error_of",
    "rungs_from",
    "verdict_key",
    "worker_environment",
]
