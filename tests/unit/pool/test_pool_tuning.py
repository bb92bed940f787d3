"""What tuned plans become, and memory that is kept for work beside the engines."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import pytest
from tests.unit.pool.conftest import NEED, PLENTY, MakePool, Planner, installed

from lilliput.catalogue import InstalledModel
from lilliput.engine import Role
from lilliput.errors import DoesNotFit
from lilliput.fit import RAM
from lilliput.pool import LoadPlan, Terms


class TunedPlanner(Planner):
    """Plans with settings as after a tune."""

    async def plan_load(
        self, model: InstalledModel, room: Mapping[str, int], role: Role = "generate", asked: Terms | None = None
    ) -> LoadPlan:
        plan = await super().plan_load(model, room, role, asked)
        return replace(plan, width=1, threads=2, batch_threads=1, flash_attention=False, repack=False, memory_map=False)


async def test_an_engine_runs_with_what_was_tuned_and_its_width_bounds_what_runs_together(
    make_pool: MakePool,
) -> None:
    pool = make_pool(planner=TunedPlanner(slots=4), slots=4)
    (await pool.lease(installed())).release()
    info = pool.find("one")
    assert info is not None
    assert info.slots == 1
    assert {name: info.settings[name] for name in ("width", "threads", "batch_threads")} == {
        "width": "1",
        "threads": "2",
        "batch_threads": "1",
    }
    assert {info.settings[name] for name in ("flash_attention", "repack", "memory_map")} == {"off"}


def test_a_width_beyond_the_slots_changes_nothing() -> None:
    plan = LoadPlan(256, 4, 6, {}, frozenset())
    assert (plan.running, replace(plan, width=2).running, replace(plan, width=16).running) == (4, 2, 4)


async def enter(block: AbstractAsyncContextManager[None]) -> None:
    async with block:
        pass


async def test_memory_beside_the_engines_is_in_the_ledger_for_as_long_as_it_is_kept(make_pool: MakePool) -> None:
    pool = make_pool(replace(PLENTY, limit_bytes=NEED.total_bytes * 3 // 2))
    async with pool.reserve("work", {RAM: NEED}, evict=False):
        assert [(one.name, one.idle) for one in pool.holdings()] == [("work", False)]
        with pytest.raises(DoesNotFit, match=r"^more needs .* of ram; .* can be used"):
            await enter(pool.reserve("more", {RAM: NEED}, evict=True))
    assert pool.holdings() == ()


async def test_no_lease_is_alone_beside_other_work(make_pool: MakePool) -> None:
    pool = make_pool()
    before = await pool.lease(installed())
    async with pool.reserve("work", {RAM: NEED}, evict=False):
        before.release()
        beside = await pool.lease(installed())
    assert [before.alone, beside.alone] == [False, False]
    beside.release()
    after = await pool.lease(installed())
    assert after.alone
    after.release()


async def test_idle_engines_end_for_other_work_only_where_that_is_wanted(make_pool: MakePool) -> None:
    pool = make_pool(replace(PLENTY, limit_bytes=NEED.total_bytes * 3 // 2))
    lease = await pool.lease(installed())
    with pytest.raises(DoesNotFit):
        await enter(pool.reserve("work", {RAM: NEED}, evict=True))
    lease.release()
    with pytest.raises(DoesNotFit):
        await enter(pool.reserve("work", {RAM: NEED}, evict=False))
    assert pool.find("one") is not None
    async with pool.reserve("work", {RAM: NEED}, evict=True):
        assert pool.find("one") is None
