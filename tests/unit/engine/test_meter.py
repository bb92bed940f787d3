"""Totals of an engine, and the rates that follow from them."""

from __future__ import annotations

import pytest

from lilliput.engine.counters import GAP_BOUNDS_S, Counters, StepCounter
from lilliput.engine.meter import WINDOW_S, Meter


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_pass_counts_its_tokens_and_how_long_running_sequences_waited_for_them() -> None:
    counter = StepCounter()
    counter.count(0, 40, 10.0, 10.2)
    counter.count(3, 16, 10.2, 10.24)
    counter.count(2, 0, 10.25, 10.27)
    totals = counter.totals
    assert (totals.steps, totals.prefill_tokens, totals.decode_tokens, totals.widest_tokens) == (3, 56, 5, 40)
    assert totals.step_s == pytest.approx(0.26)
    assert totals.gap_s == pytest.approx(3 * 0.04 + 2 * 0.03)
    assert sum(totals.gaps) == 5
    assert totals.gaps[GAP_BOUNDS_S.index(0.05)] >= 3


def test_a_prompt_after_a_silence_is_no_gap() -> None:
    counter = StepCounter()
    counter.count(1, 0, 10.0, 10.01)
    before = list(counter.totals.gaps)
    counter.count(0, 20, 500.0, 500.1)
    assert counter.totals.gaps == before


def test_an_engine_that_told_nothing_has_no_stats() -> None:
    assert Meter().stats(100) is None


def test_rates_are_those_of_the_last_seconds() -> None:
    clock = Clock()
    meter = Meter(clock)
    for step in range(1, 101):  # ten passes a second of 4 sequences and 2 prompt tokens
        clock.now += 0.1
        meter.note(Counters(steps=step, step_s=step * 0.08, decode_tokens=4 * step, prefill_tokens=2 * step), 70)
    stats = meter.stats(50)
    assert stats is not None
    assert stats.steps_s == pytest.approx(10, rel=0.07)
    assert stats.decode_tokens_s == pytest.approx(40, rel=0.07)
    assert stats.prefill_tokens_s == pytest.approx(20, rel=0.07)
    assert stats.mean_step_s == pytest.approx(0.08)
    assert stats.mean_batch_tokens == pytest.approx(6)
    assert (stats.kv_cells_used, stats.kv_cells) == (50, 50)
    assert stats.totals["steps"] == 100


def test_an_engine_that_rests_has_no_rates_but_keeps_its_totals() -> None:
    clock = Clock()
    meter = Meter(clock)
    meter.note(Counters(steps=7, decode_tokens=7), 5)
    clock.now += WINDOW_S + 1
    stats = meter.stats(50)
    assert stats is not None
    assert (stats.steps_s, stats.mean_step_s, stats.mean_batch_tokens) == (0.0, None, None)
    assert stats.totals["steps"] == 7


def test_after_a_rest_only_what_is_new_counts() -> None:
    clock = Clock()
    meter = Meter(clock)
    meter.note(Counters(steps=1000, decode_tokens=1000), 5)
    clock.now += 600
    meter.note(Counters(steps=1001, decode_tokens=1005), 5)
    clock.now += 0.1
    meter.note(Counters(steps=1002, decode_tokens=1010), 5)
    stats = meter.stats(50)
    assert stats is not None
    assert stats.decode_tokens_s == pytest.approx(10 / WINDOW_S)


def test_accepted_drafts_are_tokens_of_the_answer() -> None:
    meter = Meter(Clock())
    meter.note(Counters(steps=2, decode_tokens=2, drafted_tokens=8, accepted_tokens=6), 5)
    stats = meter.stats(50)
    assert stats is not None
    assert stats.decode_tokens_s == pytest.approx(8 / WINDOW_S)
    assert stats.mean_batch_tokens == pytest.approx(5)
