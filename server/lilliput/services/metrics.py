"""What monitoring reads: requests as they end, engines as they are at the moment of the question."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from lilliput.engine import GAP_BOUNDS_S
from lilliput.pool import EngineInfo, MemoryNow
from lilliput.services.requests import Usage

_WAITS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_TOKENS = (1, 8, 32, 128, 512, 2048, 8192, 32768, 131072)
_TOTALS = (
    ("steps", "steps", "Forward passes."),
    ("step_seconds", "step_s", "Seconds spent in forward passes."),
    ("prefill_tokens", "prefill_tokens", "Prompt tokens that went through the model."),
    ("decode_tokens", "decode_tokens", "Tokens that went through the model for sequences that generate."),
    ("cached_tokens", "cached_tokens", "Prompt tokens whose cells were there already."),
    ("preemptions", "preemptions", "Running sequences that were sent back to wait."),
    ("saved_states", "saved_states", "Prefixes saved when they left the KV cache."),
    ("restored_states", "restored_states", "Saved prefixes that came back."),
    ("drafted_tokens", "drafted_tokens", "Tokens computed ahead."),
    ("accepted_tokens", "accepted_tokens", "Tokens computed ahead that became part of an answer."),
)
_GAUGES: tuple[tuple[str, str, Callable[[EngineInfo], float | None]], ...] = (
    ("active", "Sequences that run.", lambda one: one.active),
    ("waiting", "Sequences that wait to run.", lambda one: one.waiting),
    ("idle_prefix_cells", "KV cells that hold prefixes of no running sequence.", lambda one: one.cached_tokens),
    ("degraded", "Things that the engine had to give up because memory was short.", lambda one: len(one.degraded)),
    ("memory_bytes", "Resident memory of the engine's process.", lambda one: one.memory_bytes),
    ("kv_cells_used", "KV cells in use.", lambda one: one.stats.kv_cells_used if one.stats else None),
    ("kv_cells", "KV cells there are.", lambda one: one.stats.kv_cells if one.stats else None),
    (
        "prefix_store_bytes",
        "Bytes of saved prefixes.",
        lambda one: one.stats.totals["store_bytes"] if one.stats else None,
    ),
)


@dataclass(frozen=True, slots=True)
class Ended:
    """A request that has ended: ``outcome`` is ``done``, ``cancelled`` or the code of its error. Times in seconds."""

    model: str
    outcome: str
    first_token_s: float | None = None
    queued_s: float | None = None
    usage: Usage | None = None


class Metrics:
    """Counts requests, and reads ``engines``, ``memory`` and ``steps`` (by kind and engine) whenever it is asked."""

    def __init__(
        self,
        engines: Callable[[], Sequence[EngineInfo]],
        memory: Callable[[], MemoryNow] = MemoryNow,
        steps: Callable[[], Mapping[tuple[str, str], int]] = dict,
    ) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._requests = Counter(
            "requests", "Requests by how they ended.", ("model", "outcome"), "lilliput", registry=self._registry
        )
        self._cached = Counter(
            "cached_prompt_tokens", "Prompt tokens from the cache.", ("model",), "lilliput", registry=self._registry
        )
        self._first = self._histogram("time_to_first_token_seconds", "From the request to its first text.", _WAITS_S)
        self._queued = self._histogram("queue_wait_seconds", "From the engine's queue to a slot.", _WAITS_S)
        self._prompt = self._histogram("prompt_tokens", "Tokens of the prompts of a request.", _TOKENS)
        self._generated = self._histogram("generated_tokens", "Tokens of the answers of a request.", _TOKENS)
        self._registry.register(_Engines(engines))
        self._registry.register(_Memory(memory, steps))

    def _histogram(self, name: str, text: str, bounds: Sequence[float]) -> Histogram:
        return Histogram(name, text, ("model",), "lilliput", registry=self._registry, buckets=bounds)

    def note(self, ended: Ended) -> None:
        """Count a request."""
        self._requests.labels(ended.model, ended.outcome).inc()
        if ended.first_token_s is not None:
            self._first.labels(ended.model).observe(ended.first_token_s)
        if ended.queued_s is not None:
            self._queued.labels(ended.model).observe(ended.queued_s)
        if ended.usage is not None:
            self._prompt.labels(ended.model).observe(ended.usage.prompt_tokens)
            self._generated.labels(ended.model).observe(ended.usage.completion_tokens)
            self._cached.labels(ended.model).inc(ended.usage.cached_tokens)

    def exposition(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)


class _Engines(Collector):
    """A collector, as prometheus_client calls what is read at the time of the question."""

    def __init__(self, engines: Callable[[], Sequence[EngineInfo]]) -> None:
        self._engines = engines

    def collect(self) -> Iterator[Metric]:
        """All metrics of all engines."""
        engines = self._engines()
        for name, text, read in _GAUGES:
            values = ((one.model, read(one)) for one in engines)
            gauge = GaugeMetricFamily(f"lilliput_engine_{name}", text, labels=("model",))
            for model, value in values:
                if value is not None:
                    gauge.add_metric((model,), value)
            yield gauge
        yield from _totals(engines)

    def describe(self) -> Iterable[Metric]:
        """Nothing: names need no check against others."""
        return ()


class _Memory(Collector):
    """Whether memory is short, and what was done about it."""

    def __init__(self, memory: Callable[[], MemoryNow], steps: Callable[[], Mapping[tuple[str, str], int]]) -> None:
        self._memory = memory
        self._steps = steps

    def collect(self) -> Iterator[Metric]:
        """What the watch saw last, and all steps since the daemon started."""
        now = self._memory()
        if now.watched:
            yield GaugeMetricFamily("lilliput_memory_pressed", "Whether memory is short: 1 or 0.", value=now.pressed)
        if now.available_bytes is not None:
            available = now.available_bytes
            yield GaugeMetricFamily(
                "lilliput_memory_available_bytes", "Memory that new work can take.", value=available
            )
        text = "Steps because memory was short, and back."
        counter = CounterMetricFamily("lilliput_memory_steps", text, labels=("kind", "model"))
        for (kind, engine), count in sorted(self._steps().items()):
            counter.add_metric((kind, engine), count)
        yield counter

    def describe(self) -> Iterable[Metric]:
        """Nothing: names need no check against others."""
        return ()


def _totals(engines: Sequence[EngineInfo]) -> Iterator[Metric]:
    told = [(one.model, one.stats.totals) for one in engines if one.stats is not None]
    for name, key, text in _TOTALS:
        counter = CounterMetricFamily(f"lilliput_engine_{name}", text, labels=("model",))
        for model, totals in told:
            counter.add_metric((model,), totals[key])
        yield counter
    gaps = HistogramMetricFamily(
        "lilliput_engine_inter_token_seconds", "From one token of a sequence to its next.", labels=("model",)
    )
    for model, totals in told:
        bounds = (*(str(bound) for bound in GAP_BOUNDS_S), "+Inf")
        gaps.add_metric((model,), list(zip(bounds, accumulate(totals["gaps"]), strict=True)), totals["gap_s"])
    yield gaps
