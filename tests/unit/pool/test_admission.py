from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lilliput.errors import Busy, TooManyRequests
from lilliput.pool.admission import LONGEST_S, SHORTEST_S, Places, Turnover, load_left_s

CALLERS = ("ann", "bob", "cy", "dee", "eve")


def held(**counts: int) -> Places:
    places = Places()
    for caller, count in counts.items():
        places.take(caller, count)
    return places


def refusal(places: Places, caller: str, count: int = 1, caller_limit: int | None = None) -> str | None:
    return places.refusal(caller, count, slots=4, queue_limit=16, caller_limit=caller_limit)


def refuse(
    places: Places, caller: str, caller_limit: int | None = None, now_s: float = 0.0, loads_s: float = 0
) -> None:
    places.refuse_when_full(
        "m", caller, 1, slots=4, queue_limit=16, caller_limit=caller_limit, now_s=now_s, loads_s=loads_s
    )


def test_one_caller_may_fill_the_queue_while_nobody_else_wants_a_place() -> None:
    assert refusal(held(ann=19), "ann") is None
    assert refusal(held(ann=20), "ann") == "queue"


def test_a_newcomer_gets_in_although_another_has_filled_the_queue() -> None:
    full = held(ann=20)
    assert refusal(full, "bob") is None
    full.take("bob", 10)
    assert refusal(full, "bob") == "queue"
    assert refusal(full, "ann") == "queue"
    assert refusal(full, "cy", 6) is None
    assert refusal(full, "cy", 7) == "queue"


def test_a_caller_with_more_than_its_part_gets_in_again_when_others_left_places() -> None:
    assert refusal(held(ann=15, bob=4), "ann") is None
    assert refusal(held(ann=16, bob=4), "ann") == "queue"


def test_the_limit_of_a_caller_is_its_own_and_told_as_such() -> None:
    some = held(ann=3)
    assert refusal(some, "ann", caller_limit=3) == "caller"
    assert refusal(some, "bob", caller_limit=3) is None
    with pytest.raises(TooManyRequests, match="3 of your sequences run or wait at m already"):
        refuse(some, "ann", caller_limit=3)


def test_a_request_that_has_the_engine_to_itself_may_be_larger() -> None:
    assert refusal(held(), "ann", 50) is None


@given(st.lists(st.tuples(st.sampled_from(CALLERS), st.integers(1, 4)), max_size=200))
def test_there_are_never_more_than_twice_as_many_as_there_are_places(asked: list[tuple[str, int]]) -> None:
    places = Places()
    for caller, count in asked:
        if refusal(places, caller, count) is None:
            places.take(caller, count)
    assert places.total <= 40
    assert places.by_caller == tuple(sorted(places.by_caller, reverse=True))


@given(st.lists(st.integers(1, 3), min_size=1, max_size=100), st.sampled_from(CALLERS[1:]))
def test_who_holds_nothing_always_gets_one_place_beside_one_who_holds_all(asked: list[int], newcomer: str) -> None:
    places = Places()
    for count in asked:
        if refusal(places, "ann", count) is None:
            places.take("ann", count)
    assert refusal(places, newcomer) is None


def test_a_refusal_tells_the_position_and_waits_by_what_was_measured() -> None:
    full = held(ann=20)
    full.turnover.begin(0.0)
    for second in range(1, 11):
        full.turnover.end(float(second), 1, idle=False)
    full.turnover.end(10.0, 10, idle=False)  # 20 in 10 s
    full.take("bob", 10)
    with pytest.raises(Busy, match="16 places, this request would be number 27") as caught:
        refuse(full, "ann", now_s=10.0)
    assert not isinstance(caught.value, TooManyRequests)
    assert caught.value.retry_after_s == pytest.approx(11 / 2)


def test_the_wait_has_bounds() -> None:
    full = held(ann=20)
    with pytest.raises(Busy) as soon:
        refuse(full, "ann")
    assert soon.value.retry_after_s == SHORTEST_S
    with pytest.raises(Busy) as late:
        refuse(full, "ann", loads_s=1000)
    assert late.value.retry_after_s == LONGEST_S


def test_the_rate_is_that_of_the_last_minute_and_of_time_with_work_only() -> None:
    turnover = Turnover()
    assert turnover.rate_s(0.0) is None
    turnover.begin(0.0)
    assert turnover.wait_s(1, 7.0) == 7.0  # nothing has ended yet
    turnover.end(10.0, 5, idle=True)
    assert turnover.rate_s(500.0) == 0.5  # idle since
    turnover.begin(1000.0)
    assert turnover.wait_s(1, 1001.0) == 2.0
    turnover.end(1001.0, 1, idle=False)
    assert turnover.rate_s(1001.0) == 1.0
    for second in range(1100, 1200):
        turnover.end(float(second), 3, idle=False)
    assert turnover.rate_s(1199.0) == pytest.approx(3.0, rel=0.03)


def test_many_ends_are_counted_over_the_time_that_is_remembered() -> None:
    turnover = Turnover()
    turnover.begin(0.0)
    for number in range(5000):
        turnover.end(number / 1000, 1, idle=False)
    assert turnover.rate_s(5.0) == pytest.approx(1000, rel=0.01)


def test_what_a_load_will_take_follows_from_the_part_that_is_there() -> None:
    assert load_left_s(6.0, 0.75) == pytest.approx(2.0)
    assert load_left_s(6.0, 0.0) == 6.0
