"""Iterators as feeds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from lilliput.api.feed import MOST_GATHERED, Gathered


async def numbers(count: int, error: Exception | None = None) -> AsyncIterator[int]:
    for number in range(count):
        yield number
    if error is not None:
        raise error


async def test_all_that_an_iterator_has_is_taken_at_once_with_its_end() -> None:
    async with Gathered(numbers(10)) as feed:
        await asyncio.sleep(0)
        assert feed.ready
        assert await feed.take() == (list(range(10)), True)


async def test_an_iterator_waits_for_a_slow_reader_who_gets_everything() -> None:
    taken: list[int] = []
    async with Gathered(numbers(5 * MOST_GATHERED)) as feed:
        ended = False
        while not ended:
            await asyncio.sleep(0)
            events, ended = await feed.take()
            assert len(events) <= MOST_GATHERED
            taken += events
    assert taken == list(range(5 * MOST_GATHERED))


async def test_what_came_before_a_failure_is_taken_first() -> None:
    async with Gathered(numbers(2, ValueError("no"))) as feed:
        assert await feed.take() == ([0, 1], False)
        with pytest.raises(ValueError, match="no"):
            await feed.take()


async def test_an_iterator_is_ended_with_the_block() -> None:
    closed: list[bool] = []

    async def endless() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    async with Gathered(endless()) as feed:
        assert await feed.take() == ([1], False)
        assert not feed.ready
    assert closed == [True]
