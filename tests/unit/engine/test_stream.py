"""The mailbox of a request: all that waits at once, and an end for those who do not read."""

from __future__ import annotations

import asyncio

import pytest

from lilliput.engine import EventStream, Text
from lilliput.engine.stream import MOST_AT_ONCE
from lilliput.errors import Cancelled, EngineDied


def texts(count: int) -> list[Text]:
    return [Text(1, str(number)) for number in range(count)]


async def test_all_that_waits_is_taken_at_once_and_in_order() -> None:
    stream = EventStream()
    for event in texts(3):
        stream.push(event)
    assert await stream.take() == texts(3)
    assert not stream.ready


async def test_a_reader_who_waits_is_woken_once_for_a_burst() -> None:
    stream = EventStream()
    reading = asyncio.create_task(stream.take())
    await asyncio.sleep(0)
    for event in texts(5):
        stream.push(event)
    assert await reading == texts(5)


async def test_one_who_was_behind_gets_his_events_in_parts_and_others_a_turn_between() -> None:
    stream = EventStream()
    for event in texts(MOST_AT_ONCE + 2):
        stream.push(event)
    turns = 0

    async def other() -> None:
        nonlocal turns
        turns += 1

    first = await stream.take()
    waiting = asyncio.create_task(other())
    rest = await stream.take()
    assert turns == 1
    assert (len(first), [*first, *rest]) == (MOST_AT_ONCE, texts(MOST_AT_ONCE + 2))
    await waiting


async def test_a_failure_comes_after_what_was_there() -> None:
    stream = EventStream()
    stream.push(Text(1, "a"))
    stream.fail(EngineDied("it died"))
    assert await stream.take() == [Text(1, "a")]
    with pytest.raises(EngineDied):
        await stream.take()


async def test_a_reader_who_never_reads_loses_the_stream_once_and_its_sequences_are_freed() -> None:
    freed: list[bool] = []
    stream = EventStream(lambda: freed.append(True), most_waiting=4)
    for event in texts(6):
        stream.push(event)
    assert freed == [True]
    assert len(await stream.take()) == 6
    with pytest.raises(Cancelled, match="4 tokens wait"):
        await stream.take()


async def test_a_reader_who_keeps_up_may_have_any_number_of_events() -> None:
    freed: list[bool] = []
    stream = EventStream(lambda: freed.append(True), most_waiting=4)
    for event in texts(20):
        stream.push(event)
        assert await stream.take() == [event]
    assert not freed
