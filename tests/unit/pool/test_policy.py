from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lilliput.fit import Budget, MemoryNeed
from lilliput.pool import Holding, evictions, room_bytes


def need(weights: int, rest: int = 0) -> MemoryNeed:
    return MemoryNeed(weights_bytes=weights, kv_bytes=rest, compute_bytes=0, overhead_bytes=0)


def holding(name: str, size: int, *, idle: bool = True, used: float = 0.0) -> Holding:
    return Holding(name, need(size), idle, used)


HOLDINGS = st.lists(
    st.builds(
        holding,
        st.uuids().map(str),
        st.integers(0, 1000),
        idle=st.booleans(),
        used=st.floats(0, 100, allow_nan=False),
    ),
    max_size=8,
    unique_by=lambda one: one.name,
)


@pytest.mark.parametrize(
    ("budget", "room"),
    [
        pytest.param(Budget(1000, 500, 100, 0.8), 400 - 50, id="mapped weights count as available, so they go off"),
        pytest.param(Budget(1000, 990, 0, 0.5), 500 - 80, id="whole engines count against the share"),
        pytest.param(Budget(1000, 990, 0, 1.0, 200), 200 - 80, id="and against a limit"),
        pytest.param(Budget(1000, 100, 90, 0.8), 10 - 50, id="more may be held than there is room for"),
    ],
)
def test_room_is_the_smallest_of_its_bounds(budget: Budget, room: int) -> None:
    assert room_bytes(budget, [Holding("a", need(50, 30), True, 0)]) == room


@pytest.mark.parametrize(
    ("wanted", "room", "names"),
    [
        (10, 10, ()),
        (11, 10, ("old",)),
        (30, 10, ("old",)),
        (31, 10, ("old", "new")),
        (51, 10, None),
    ],
)
def test_the_longest_unused_go_first_and_no_more_than_needed(
    wanted: int, room: int, names: tuple[str, ...] | None
) -> None:
    holdings = [holding("new", 20, used=9), holding("busy", 90, idle=False), holding("old", 20, used=1)]
    assert evictions(wanted, room, holdings) == names


@given(st.integers(0, 3000), st.integers(-500, 1000), HOLDINGS)
def test_evictions_make_the_room_they_promise_and_spare_the_busy(wanted: int, room: int, held: list[Holding]) -> None:
    by_name = {one.name: one for one in held}
    names = evictions(wanted, room, held)
    most = room + sum(one.need.total_bytes for one in held if one.idle)
    assert (names is None) == (most < wanted)
    if names is None:
        return
    assert len(set(names)) == len(names)
    assert all(by_name[name].idle for name in names)
    freed = [by_name[name].need.total_bytes for name in names]
    assert room + sum(freed) >= wanted
    assert not names or room + sum(freed[:-1]) < wanted  # the last one was needed
    spared = [one.last_used_s for one in held if one.idle and one.name not in names]
    assert not names or all(by_name[name].last_used_s <= used for name in names for used in spared)


@given(st.integers(0, 10_000), st.integers(0, 10_000), HOLDINGS, st.integers(0, 1000))
def test_another_engine_never_makes_more_room(total: int, available: int, held: list[Holding], size: int) -> None:
    budget = Budget(total, available, 100, 0.8, 5000)
    assert room_bytes(budget, [*held, holding("another", size)]) <= room_bytes(budget, held)
    assert room_bytes(budget, []) <= 5000
