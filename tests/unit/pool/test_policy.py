from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lilliput.fit import RAM, Budget, MemoryNeed
from lilliput.pool import Holding, evictions, rooms
from lilliput.pool.policy import are_rivals, fits, freed, to_drain

GPU = "Vulkan0"


def need(weights: int, rest: int = 0) -> MemoryNeed:
    return MemoryNeed(weights_bytes=weights, kv_bytes=rest, compute_bytes=0, overhead_bytes=0)


NOW = 100.0


def holding(
    name: str, ram: int, gpu: int = 0, *, idle: bool = True, used: float = 0.0, reload_s: float = 1.0
) -> Holding:
    return Holding(name, {RAM: need(ram), GPU: need(gpu)}, idle, used, reload_s=reload_s)


HOLDINGS = st.lists(
    st.builds(
        holding,
        st.uuids().map(str),
        st.integers(0, 1000),
        st.integers(0, 1000),
        idle=st.booleans(),
        used=st.floats(0, 100, allow_nan=False),
        reload_s=st.floats(0, 100, allow_nan=False),
    ),
    max_size=8,
    unique_by=lambda one: one.name,
)


@pytest.mark.parametrize(
    ("budget", "room"),
    [
        pytest.param(Budget(1000, 500, 100, 0.8), 400 - 50, id="what was not touched yet counts as available: it goes"),
        pytest.param(Budget(1000, 990, 0, 0.5), 500 - 80, id="whole engines count against the share"),
        pytest.param(Budget(1000, 990, 0, 1.0, 200), 200 - 80, id="and against a limit"),
        pytest.param(Budget(1000, 100, 90, 0.8), 10 - 50, id="more may be held than there is room for"),
    ],
)
def test_room_is_the_smallest_of_its_bounds(budget: Budget, room: int) -> None:
    held = Holding("a", {RAM: need(50, 30)}, True, 0, {RAM: 30})
    assert rooms({RAM: budget}, [held]) == {RAM: room}


def test_an_engine_that_touched_more_than_planned_promises_nothing() -> None:
    held = Holding("a", {RAM: need(50)}, True, 0, {RAM: 70})
    assert (held.promised_bytes(RAM), held.promised_bytes(GPU)) == (0, 0)


@pytest.mark.parametrize(("measured_now", "room"), [(True, 300), (False, 100)])
def test_what_is_held_comes_off_a_figure_from_before(measured_now: bool, room: int) -> None:
    # Its 200 are gone from what is available when that was measured now, and still in it when it is from before.
    engine = Holding("a", {GPU: need(200)}, True, 0, {GPU: 200})
    budget = Budget(1000, 300, 0, 1.0, measured_now=measured_now)
    assert rooms({GPU: budget}, [engine]) == {GPU: room}


def test_each_device_has_a_room_of_its_own() -> None:
    budgets = {RAM: Budget(1000, 1000, 0, 1.0), GPU: Budget(500, 500, 50, 1.0)}
    held = [Holding("a", {RAM: need(100), GPU: need(200)}, True, 0, {RAM: 60, GPU: 200})]
    assert rooms(budgets, held) == {RAM: 900, GPU: 300}  # 1000 - the whole engine; 500 - 200 of all, 450 of free
    assert rooms({RAM: budgets[RAM]}, held) == {RAM: 900}


def test_what_fits_does_so_on_every_device_and_one_without_a_budget_has_no_room() -> None:
    assert fits({RAM: need(10), GPU: need(5)}, {RAM: 10, GPU: 5})
    assert not fits({RAM: need(10), GPU: need(6)}, {RAM: 10, GPU: 5})
    assert not fits({RAM: need(1), GPU: need(1)}, {RAM: 10})
    assert fits({RAM: need(1), GPU: need(0)}, {RAM: 10})


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
    assert evictions({RAM: need(wanted)}, {RAM: room}, holdings, NOW) == names


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (holding("soon loaded again", 20, reload_s=0.5), holding("slow to load", 20, reload_s=30)),
        (holding("large", 80), holding("small", 10)),
        (holding("long unused", 20, used=1), holding("used just now", 20, used=99)),
        (holding("a minute unused, loads in 1 s", 20, used=40), holding("10 s unused, loads in 1 s", 20, used=90)),
        (holding("unused, cheap", 20, used=90, reload_s=1), holding("longer unused, dear", 20, used=50, reload_s=60)),
    ],
)
def test_the_engine_of_least_worth_goes_first(one: Holding, other: Holding) -> None:
    assert evictions({RAM: need(10)}, {RAM: 0}, [other, one], NOW) == (one.name,)


def test_an_engine_that_was_loaded_only_just_now_stays_for_a_while() -> None:
    new = replace(holding("new", 50), stays_until_s=NOW + 1)
    assert evictions({RAM: need(10)}, {RAM: 0}, [new], NOW) is None
    assert evictions({RAM: need(10)}, {RAM: 0}, [new], NOW + 1) == ("new",)
    assert evictions({RAM: need(10)}, {RAM: 0}, [new, holding("dear", 50, used=99, reload_s=99)], NOW) == ("dear",)
    assert to_drain({RAM: need(10)}, {RAM: 0}, [new], NOW) == ("new",)


def test_who_must_go_for_others_in_the_end() -> None:
    held = [holding("busy", 50, idle=False), replace(holding("pinned", 90, idle=False), lasting=True)]
    assert to_drain({RAM: need(10)}, {RAM: 0}, held, NOW) == ("busy",)
    assert to_drain({RAM: need(60)}, {RAM: 0}, held, NOW) is None


def test_none_goes_in_vain() -> None:
    # The first to go would not be enough, and with the second it is no longer needed.
    holdings = [holding("small", 10, used=1), holding("large", 50, used=98, reload_s=5)]
    assert holdings[0].worth(NOW) < holdings[1].worth(NOW)
    assert evictions({RAM: need(40)}, {RAM: 0}, holdings, NOW) == ("large",)


def test_engines_go_until_every_device_has_room() -> None:
    holdings = [holding("ram", 50, used=1), holding("gpu", 0, 50, used=2), holding("both", 50, 50, used=90)]
    wanted = {RAM: need(10), GPU: need(40)}
    assert evictions(wanted, {RAM: 10, GPU: 0}, holdings, NOW) == ("gpu",)
    assert evictions(wanted, {RAM: -40, GPU: 0}, holdings, NOW) == ("ram", "gpu")
    assert evictions(wanted, {RAM: -90, GPU: 0}, holdings, NOW) == ("ram", "both")
    assert evictions(wanted, {RAM: -90, GPU: -50}, holdings, NOW) == ("ram", "gpu", "both")


@given(st.integers(0, 3000), st.integers(0, 3000), st.integers(-500, 1000), st.integers(-500, 1000), HOLDINGS)
def test_evictions_make_the_room_they_promise_and_spare_the_busy(
    ram: int, gpu: int, ram_room: int, gpu_room: int, held: list[Holding]
) -> None:
    by_name = {one.name: one for one in held}
    wanted, room = {RAM: need(ram), GPU: need(gpu)}, {RAM: ram_room, GPU: gpu_room}
    names = evictions(wanted, room, held, NOW)
    assert (names is None) == (not fits(wanted, freed(room, [one for one in held if one.idle])))
    if names is None:
        return
    assert len(set(names)) == len(names)
    assert all(by_name[name].idle for name in names)
    assert fits(wanted, freed(room, [by_name[name] for name in names]))
    for name in names:  # each was needed
        assert not fits(wanted, freed(room, [by_name[other] for other in names if other != name]))
    worths = [by_name[name].worth(NOW) for name in names]
    assert worths == sorted(worths)


@given(st.integers(0, 10_000), st.integers(0, 10_000), HOLDINGS, st.integers(0, 1000))
def test_another_engine_never_makes_more_room(total: int, available: int, held: list[Holding], size: int) -> None:
    budgets = {RAM: Budget(total, available, 100, 0.8, 5000)}
    assert rooms(budgets, [*held, holding("another", size)])[RAM] <= rooms(budgets, held)[RAM]
    assert rooms(budgets, [])[RAM] <= 5000


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 10_000))
def test_a_promise_that_is_kept_does_not_change_the_room(size: int, touched: int, available: int) -> None:
    """What an engine touches leaves what is available and, by as much, what it was promised."""
    taken = min(size, touched)
    before = rooms({RAM: Budget(10**6, available, 0, 1.0)}, [Holding("a", {RAM: need(size)}, True, 0)])
    after = rooms(
        {RAM: Budget(10**6, available - taken, 0, 1.0)}, [Holding("a", {RAM: need(size)}, True, 0, {RAM: taken})]
    )
    assert before == after


def rival(name: str, size: int, *, idle: bool = True, lasting: bool = False) -> Holding:
    return replace(holding(name, size, idle=idle), rival=True, lasting=lasting)


def test_idle_rivals_go_even_where_there_is_room_and_others_only_where_there_is_none() -> None:
    held = [rival("same group", 10), holding("other", 10)]
    assert evictions({RAM: need(5)}, {RAM: 100}, held, NOW) == ("same group",)
    assert evictions({RAM: need(15)}, {RAM: 0}, held, NOW) == ("same group", "other")


def test_a_busy_rival_is_waited_for_and_one_that_stays_is_not() -> None:
    busy = [rival("busy", 10, idle=False)]
    assert evictions({RAM: need(5)}, {RAM: 100}, busy, NOW) is None
    assert to_drain({RAM: need(5)}, {RAM: 100}, busy, NOW) == ("busy",)
    assert to_drain({RAM: need(5)}, {RAM: 100}, [rival("pinned", 10, idle=False, lasting=True)], NOW) is None


@given(HOLDINGS, st.sets(st.integers(0, 7)), st.integers(0, 2000), st.integers(0, 500))
def test_no_rival_is_left_and_nobody_else_goes_in_vain(
    held: list[Holding], rivals: set[int], room: int, size: int
) -> None:
    held = [replace(one, rival=index in rivals) for index, one in enumerate(held)]
    needs, rooms_now = {RAM: need(size)}, {RAM: room, GPU: 0}
    chosen = evictions(needs, rooms_now, held, NOW)
    gone = [one for one in held if chosen is not None and one.name in chosen]
    if chosen is None:
        idle = [one for one in held if one.idle]
        assert any(one.rival and not one.idle for one in held) or not fits(needs, freed(rooms_now, idle))
        return
    assert {one.name for one in held if one.rival} <= set(chosen)
    assert all(one.idle for one in gone)
    assert fits(needs, freed(rooms_now, gone))
    for one in gone:
        assert one.rival or not fits(needs, freed(rooms_now, [other for other in gone if other is not one]))


def test_groups_name_models_and_their_variants() -> None:
    groups = [("llama3.1:8b", "qwen2.5:7b"), ("org/repo", "small")]
    assert are_rivals(groups, "llama3.1:8b-q4_k_m", "qwen2.5:7b")
    assert are_rivals(groups, "small", "org/repo:Q4_K_M")
    assert are_rivals(groups, "llama3.1:8b-q8_0", "llama3.1:8b-q4_k_m")
    assert not are_rivals(groups, "small", "small")
    assert not are_rivals(groups, "llama3.1:8b", "small")
    assert not are_rivals(groups, "llama3.1:80b", "qwen2.5:7b")
