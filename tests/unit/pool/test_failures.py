from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.pool.conftest import MakePool, installed

from lilliput.catalogue import InstalledFile, InstalledModel
from lilliput.errors import BadFile, EngineLoadFailed, InvalidRequest
from lilliput.pool.failures import LAST_LINES, MOST_SHOWN, SHOWN_S, Failures
from lilliput.pool.resident import Resident


async def test_what_failed_is_shown_with_its_last_lines_for_a_while() -> None:
    failures = Failures()
    lines = tuple(f"line {number}" for number in range(100))
    failures.note(Resident(InstalledModel("one", "file", ())), EngineLoadFailed("it refused", log_tail=lines), 1000.0)
    (shown,) = failures.list(1000.0 + SHOWN_S - 1)
    assert (shown.model, shown.state, shown.error, shown.failed_at) == ("one", "failed", "it refused", 1000.0)
    assert shown.log_tail == lines[-LAST_LINES:]
    assert failures.list(1000.0 + SHOWN_S) == ()


async def test_a_load_that_was_refused_has_not_failed() -> None:
    failures = Failures()
    failures.note(Resident(InstalledModel("one", "file", ())), InvalidRequest("no"), 1000.0)
    assert failures.list(1000.0) == ()


async def test_few_are_remembered_and_each_once() -> None:
    failures = Failures()
    for number in range(3 * MOST_SHOWN):
        for _ in range(2):
            failures.note(Resident(InstalledModel(f"m{number}", "file", ())), ValueError("odd"), 1000.0)
    shown = failures.list(1000.0)
    assert len(shown) == MOST_SHOWN
    assert (shown[0].model, shown[-1].model) == (f"m{2 * MOST_SHOWN}", f"m{3 * MOST_SHOWN - 1}")
    assert shown[-1].error == "odd"


async def test_a_load_that_failed_is_listed_until_it_is_tried_again(make_pool: MakePool, tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF but not really")
    pool = make_pool()
    with pytest.raises(BadFile):
        await pool.lease(replace(installed(), files=(InstalledFile(path, 19),)))
    (failed,) = pool.failed()
    assert (failed.model, failed.state) == ("one", "failed")
    assert str(path) in (failed.error or "")
    (await pool.lease(installed())).release()
    assert pool.failed() == ()


async def test_a_load_that_nobody_waits_for_any_more_has_not_failed(make_pool: MakePool) -> None:
    pool = make_pool()
    leaving = asyncio.create_task(pool.lease(installed()))
    async with asyncio.timeout(20):
        while not any(info.pid for info in pool.list()):
            await asyncio.sleep(0.005)
    leaving.cancel()
    await asyncio.wait([leaving])
    await pool.aclose()
    assert pool.failed() == ()


async def test_a_pin_leaves_the_time_of_other_engines_alone(make_pool: MakePool) -> None:
    pool = make_pool(keep_alive_s=300)
    for name in ("one", "two"):
        (await pool.lease(installed(name))).release()
    before = {info.model: info.expires_at for info in pool.list()}
    pool.pin(["two"])
    after = {info.model: info.expires_at for info in pool.list()}
    assert after == {"one": before["one"], "two": None}
