"""Metrics as Prometheus reads them."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from lilliput.engine import GAP_BOUNDS_S, EngineStats
from lilliput.engine.counters import Counters
from lilliput.pool import EngineInfo, MemoryNow, Steps
from lilliput.services.metrics import Ended, Metrics
from lilliput.services.requests import Usage

ENGINE = EngineInfo("m", "generate", None, "ready", 1, 256, 4, 2, 1, 30, None, 1.0, {}, None, 0.0, None)


def values(metrics: Metrics) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {
        (sample.name, *(value for name, value in sample.labels.items() if name != "model")): sample.value
        for family in families
        for sample in family.samples
    }


def stats(**counts: int) -> EngineStats:
    gaps = [5, 3, *[0] * (len(GAP_BOUNDS_S) - 1)]
    totals = msgspec.structs.asdict(Counters(gap_s=0.5, gaps=gaps, **counts))
    return EngineStats(1.0, 2.0, 3.0, None, None, 40, 256, totals)


def test_requests_are_counted_by_their_outcome_with_what_they_took() -> None:
    metrics = Metrics(lambda: ())
    usage = Usage(prompt_tokens=100, completion_tokens=20, cached_tokens=60)
    metrics.note(Ended("m", "done", 0.2, 0.05, usage))
    metrics.note(Ended("m", "done", 0.4, 0.0, usage))
    metrics.note(Ended("m", "engine-died", 0.1))
    found = values(metrics)
    assert found["lilliput_requests_total", "done"] == 2
    assert found["lilliput_requests_total", "engine-died"] == 1
    assert found["lilliput_time_to_first_token_seconds_count",] == 3
    assert found["lilliput_time_to_first_token_seconds_sum",] == pytest.approx(0.7)
    assert found["lilliput_queue_wait_seconds_bucket", "0.05"] == 2
    assert found["lilliput_prompt_tokens_sum",] == 200
    assert found["lilliput_generated_tokens_sum",] == 40
    assert found["lilliput_cached_prompt_tokens_total",] == 120


def test_engines_are_read_when_they_are_asked_for() -> None:
    engines = [replace(ENGINE, stats=stats(steps=7, preemptions=1))]
    metrics = Metrics(lambda: engines)
    found = values(metrics)
    assert found["lilliput_engine_active",] == 2
    assert found["lilliput_engine_kv_cells_used",] == 40
    assert found["lilliput_engine_idle_prefix_cells",] == 30
    assert found["lilliput_engine_steps_total",] == 7
    assert found["lilliput_engine_preemptions_total",] == 1
    assert "lilliput_engine_memory_bytes" not in {name for name, *_ in found}
    engines[:] = []
    assert not values(metrics)


def test_gaps_between_tokens_are_a_histogram() -> None:
    found = values(Metrics(lambda: [replace(ENGINE, stats=stats())]))
    first, second, *_ = (str(bound) for bound in GAP_BOUNDS_S)
    name = "lilliput_engine_inter_token_seconds"
    assert found[f"{name}_bucket", first] == 5
    assert found[f"{name}_bucket", second] == found[f"{name}_bucket", "+Inf"] == found[f"{name}_count",] == 8
    assert found[f"{name}_sum",] == 0.5


def test_an_engine_that_told_nothing_yet_has_its_load_only() -> None:
    found = values(Metrics(lambda: [ENGINE]))
    assert found["lilliput_engine_waiting",] == 1
    assert not any(name.endswith("steps_total") for name, *_ in found)


def test_what_memory_made_necessary_is_counted_and_shown() -> None:
    steps = Steps()
    now = MemoryNow()
    metrics = Metrics(lambda: [replace(ENGINE, degraded=("a", "b"))], lambda: now, lambda: steps.counts)
    found = values(metrics)
    assert found["lilliput_engine_degraded",] == 2
    assert not any(name.startswith("lilliput_memory") for name, *_ in found)
    for _ in range(2):
        steps.note("evict", "m", "it is ended", before_bytes=5, after_bytes=0)
    steps.note("less", "m", "it is loaded with less")
    now = MemoryNow(True, True, "little is available", 300)
    found = values(metrics)
    assert found["lilliput_memory_steps_total", "evict"] == 2
    assert found["lilliput_memory_steps_total", "less"] == 1
    assert (found["lilliput_memory_pressed",], found["lilliput_memory_available_bytes",]) == (1, 300)
