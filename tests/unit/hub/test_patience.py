from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from lilliput.errors import HubUnreachable
from lilliput.hub import Patience
from lilliput.hub.patience import Transient

PATIENCE = Patience(attempts=3, backoff_s=1.0, most_backoff_s=5.0, most_retry_after_s=60.0)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return pauses


def failing(times: int, retry_after_s: float | None = None) -> Callable[[], Awaitable[str]]:
    left = iter(range(times))

    async def attempt() -> str:
        if next(left, None) is not None:
            raise Transient(HubUnreachable("gone"), retry_after_s=retry_after_s)
        return "answer"

    return attempt


async def test_transient_failures_are_tried_again_after_growing_jittered_pauses(slept: list[float]) -> None:
    heard: list[tuple[str, float]] = []
    answer = await PATIENCE.persist(failing(2), on_wait=lambda message, wait_s: heard.append((message, wait_s)))
    assert answer == "answer"
    assert 0.5 <= slept[0] <= 1.0 <= slept[1] <= 2.0
    assert [wait_s for _, wait_s in heard] == slept
    assert heard[0][0].startswith("gone; trying again in ")


async def test_attempts_are_bounded_and_end_with_the_error_itself(slept: list[float]) -> None:
    with pytest.raises(HubUnreachable, match="gone"):
        await PATIENCE.persist(failing(3))
    assert len(slept) == 2


async def test_a_wait_that_the_server_asks_for_is_honoured_exactly(slept: list[float]) -> None:
    await PATIENCE.persist(failing(1, retry_after_s=42.0))
    assert slept == [42.0]


async def test_a_server_that_asks_for_too_long_a_wait_is_not_waited_for(slept: list[float]) -> None:
    with pytest.raises(HubUnreachable):
        await PATIENCE.persist(failing(1, retry_after_s=61.0))
    assert slept == []


async def test_progress_renews_the_attempts_but_a_trickle_does_not(slept: list[float]) -> None:
    reached = iter([0, 100_000, 200_000, 300_000, 300_001, 300_002])
    with pytest.raises(HubUnreachable):
        await PATIENCE.persist(failing(100), reached_bytes=lambda: next(reached))
    assert len(slept) == 4


def test_pauses_stop_growing_at_the_limit() -> None:
    assert all(PATIENCE.wait_s(failures) <= 5.0 for failures in (5, 50, 5000))
