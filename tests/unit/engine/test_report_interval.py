"""How often a worker tells its news."""

from __future__ import annotations

from lilliput.engine.worker import REPORT_INTERVAL_S, idle_limit_tokens, report_interval_s
from lilliput.llama import Buffers
from lilliput.units import MIB


def test_news_are_bundled_only_where_the_computing_threads_hold_every_core() -> None:
    assert report_interval_s(2, cores=2) == REPORT_INTERVAL_S
    assert report_interval_s(2, cores=1) == REPORT_INTERVAL_S
    assert report_interval_s(2, cores=4) == 0.0


def test_few_idle_prefixes_stay_in_the_cache_of_a_small_model() -> None:
    small = Buffers(weights={"CPU": 98 * MIB}, kv={"CPU": 180 * MIB}, compute={}, output={}, caches=())
    large = Buffers(weights={"CPU": 8000 * MIB}, kv={"CPU": 1024 * MIB}, compute={}, output={}, caches=())
    assert idle_limit_tokens(8192, small) == 44
    assert idle_limit_tokens(8192, large) == 512
