"""What a daemon tells of its work while it works."""

from __future__ import annotations

from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.bench.null_engine import measure
from tests.support.daemon import DaemonProcess

pytestmark = pytest.mark.functional

MODEL = "smollm2:135m"


def test_an_answer_shows_in_the_metrics_and_in_the_engine(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path) as daemon, httpx.Client(base_url=daemon.url, timeout=60, trust_env=False) as http:
        body = {"model": MODEL, "prompt": "One, two,", "max_tokens": 12, "ignore_eos": True}
        usage = http.post("/v1/completions", json=body).json()["usage"]
        metrics = http.get("/metrics")
        (engine,) = http.get("/lilliput/engines").json()["engines"]
        route = http.get("/openapi.json").json()["paths"]["/lilliput/engines"]["get"]
    found = {
        (sample.name, sample.labels.get("outcome")): sample.value
        for family in text_string_to_metric_families(metrics.text)
        for sample in family.samples
    }
    assert found["lilliput_requests_total", "done"] >= 1
    assert found["lilliput_time_to_first_token_seconds_count", None] >= 1
    assert found["lilliput_generated_tokens_sum", None] >= usage["completion_tokens"] == 12
    assert found["lilliput_engine_decode_tokens_total", None] >= 11
    assert found["lilliput_engine_inter_token_seconds_count", None] >= 11
    stats = engine["stats"]
    assert stats["totals"]["steps"] >= 12
    assert stats["decode_tokens_s"] > 0
    assert 0 < stats["kv_cells_used"] <= stats["kv_cells"] == engine["context_tokens"]
    (shown,) = route["responses"]["200"]["content"]["application/json"]["example"]["engines"]
    assert engine["settings"]
    assert engine.pop("settings").keys() <= shown.pop("settings").keys()
    assert (engine.pop("by_caller"), shown.pop("by_caller")) == ([], [1])
    told = {name: value for name, value in engine.items() if value is not None}  # no schema shows what is not there
    assert kinds(shown) == kinds(told), "the example in /docs is not what an engine looks like"


def kinds(told: object) -> object:
    """The shape of a JSON value: keys, and what kind of value is where."""
    if isinstance(told, dict):
        return {key: kinds(value) for key, value in told.items()}
    if isinstance(told, list):
        return [kinds(one) for one in told]
    return "number" if isinstance(told, int | float) else type(told).__name__


def test_every_token_of_many_fast_streams_arrives_as_a_chunk(tmp_path: Path) -> None:
    cores = _cores()
    figures = measure(tmp_path, streams=16, tokens=500)  # raises when one is missing
    assert figures.chunks == 16 * 500
    assert figures.chunk_cpu_us > 0
    assert _cores() == cores, "what runs after the measurement may use all cores again"


def _cores() -> list[int]:
    return list(psutil.Process().cpu_affinity() or ()) if hasattr(psutil.Process, "cpu_affinity") else []
