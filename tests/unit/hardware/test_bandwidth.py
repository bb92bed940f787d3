from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc

import pytest

from lilliput.hardware.bandwidth import USUAL_BYTES, buffer_bytes, measure_bandwidth, probe
from lilliput.units import GIB, MIB


@pytest.mark.parametrize(
    ("available", "cache", "taken"),
    [
        (64 * GIB, None, 256 * MIB),
        (64 * GIB, 32 * MIB, 256 * MIB),
        (20 * GIB, 300 * MIB, 600 * MIB),
        (4 * GIB, 300 * MIB, 4 * GIB // 10),
        (GIB, 32 * MIB, GIB // 10),
        (0, None, 0),
    ],
)
def test_the_probe_takes_twice_the_caches_and_at_most_a_tenth_of_what_is_available(
    available: int, cache: int | None, taken: int
) -> None:
    assert buffer_bytes(available, cache) == taken


@pytest.mark.parametrize("threads", [1, 3])
def test_the_result_is_plausible_and_the_memory_is_what_was_allowed(threads: int) -> None:
    tracemalloc.start()
    try:
        found = measure_bandwidth(threads, 0.02, total_bytes=24 * MIB)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 1e8 < found < 1e13
    assert 24 * MIB <= peak < 25 * MIB


def test_no_thread_cannot_read() -> None:
    with pytest.raises(ValueError, match="0 threads"):
        measure_bandwidth(0)


def test_a_thread_that_gets_no_memory_ends_the_measurement_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("lilliput.hardware.bandwidth.np.empty", refuse)
    with pytest.raises(Exception, match=r".*") as caught:
        measure_bandwidth(2, 0.01, total_bytes=MIB)
    assert type(caught.value).__name__ in ("MemoryError", "BrokenBarrierError")


def test_the_probe_says_whether_the_caches_could_hold_the_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lilliput.hardware.bandwidth.buffer_bytes", lambda available, cache: MIB)
    for cache, bound in ((None, None), (MIB, True), (MIB // 2, False)):
        monkeypatch.setattr("lilliput.hardware.bandwidth.last_level_cache_bytes", lambda cache=cache: cache)
        assert probe(1, 0.01)["cache_bound"] is bound


def test_a_child_prints_json_and_nothing_else() -> None:
    command = [sys.executable, "-m", "lilliput.hardware.bandwidth", "--threads", "2", "--seconds", "0.01"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    told = json.loads(done.stdout)
    assert done.stderr == ""
    assert told["threads"] == 2
    assert told["buffer_bytes"] <= max(USUAL_BYTES, 2 * (told["cache_bytes"] or 0))
    assert 1e8 < told["bandwidth_bytes_s"] < 1e13
