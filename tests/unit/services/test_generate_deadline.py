"""The time a request gives itself begins when it comes, not when its engine is ready."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.unit.services.test_generate import ScriptedPool, all_of, answered, completion

from lilliput.catalogue import InstalledModel
from lilliput.engine import Accepted
from lilliput.errors import DeadlineExceeded
from lilliput.pool import Lease
from lilliput.services.requests import CompletionRequest, Limits


class SlowPool(ScriptedPool):
    """Takes ``wait_s`` for a lease."""

    wait_s = 0.05

    async def lease(
        self, model: InstalledModel, *, sequences: int = 1, keep_alive_s: float | None = None, caller: str = ""
    ) -> Lease:
        await asyncio.sleep(self.wait_s)
        return await super().lease(model, sequences=sequences)


def hurried(deadline_s: float | None) -> CompletionRequest:
    return replace(completion("a"), limits=Limits(deadline_s=deadline_s))


async def test_who_waits_for_an_engine_past_the_deadline_is_told() -> None:
    pool = SlowPool(answered)
    pool.wait_s = 60.0
    with pytest.raises(DeadlineExceeded, match=r"0\.02 s"):
        await pool.generator.complete(hurried(0.02))
    assert pool.leases == []
    assert [one.outcome for one in pool.ended] == ["deadline-exceeded"]


async def test_the_engine_is_told_how_long_a_request_has_waited_for_it() -> None:
    pool = SlowPool(answered)
    await all_of(await pool.generator.complete(hurried(30.0)))
    (message,) = pool.engine.submitted
    assert message.deadline_s == 30.0
    assert pool.wait_s * 0.9 <= message.waited_s < 10


async def test_without_a_deadline_the_engine_may_take_its_time() -> None:
    pool = SlowPool(answered)
    await all_of(await pool.generator.complete(hurried(None)))
    assert len(pool.leases) == 1


async def test_a_deadline_does_not_wait_for_an_engine_that_is_in_a_long_pass() -> None:
    pool = ScriptedPool(lambda message: [Accepted(message.id, 7)])
    answer = await pool.generator.complete(hurried(0.05))
    with pytest.raises(DeadlineExceeded, match=r"0\.05 s"):
        await all_of(answer)
    assert set(pool.engine.cancelled) == {1}
    assert pool.leases[0].released > 0
    assert [one.outcome for one in pool.ended] == ["deadline-exceeded"]
