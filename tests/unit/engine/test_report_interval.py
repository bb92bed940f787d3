"""How often a worker tells its news."""

from __future__ import annotations

from lilliput.engine.worker import REPORT_INTERVAL_S, report_interval_s


def test_news_are_bundled_only_where_the_computing_threads_hold_every_core() -> None:
    assert report_interval_s(2, cores=2) == REPORT_INTERVAL_S
    assert report_interval_s(2, cores=1) == REPORT_INTERVAL_S
    assert report_interval_s(2, cores=4) == 0.0
