"""Rates and remaining times from byte counts."""

from __future__ import annotations

import pytest

from lilliput.services.job_rate import RateMeter, eta_s


def test_a_rate_needs_half_a_second_and_forgets_after_ten() -> None:
    meter = RateMeter()
    assert meter.rate_bytes_s() is None
    meter.add(0.0, 0)
    meter.add(0.1, 1000)
    assert meter.rate_bytes_s() is None
    for tenth in range(2, 301):
        meter.add(tenth / 10, tenth * 100 + 900)
    assert meter.rate_bytes_s() == pytest.approx(1000, rel=0.01)
    for tenth in range(301, 501):
        meter.add(tenth / 10, 30_900)
    assert meter.rate_bytes_s() == 0


def test_a_count_that_goes_back_starts_the_rate_afresh() -> None:
    meter = RateMeter()
    meter.add(0, 1000)
    meter.add(1, 2000)
    meter.add(2, 0)
    assert meter.rate_bytes_s() is None
    meter.add(3, 10)
    assert meter.rate_bytes_s() == pytest.approx(10)


def test_an_eta_is_unknown_without_rate_or_total() -> None:
    assert eta_s(None, 1, 2) is None
    assert eta_s(0.0, 1, 2) is None
    assert eta_s(10.0, 1, None) is None
    assert eta_s(10.0, 50, 100) == 5
