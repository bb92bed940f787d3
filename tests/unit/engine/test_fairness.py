from __future__ import annotations

from bisect import insort
from dataclasses import dataclass
from operator import attrgetter

from hypothesis import given, settings
from hypothesis import strategies as st

from lilliput.engine.fairness import fair_rank, in_turns, place
from lilliput.engine.pace import Pace
from lilliput.engine.prefix_cache import PrefixCache
from lilliput.engine.scheduler import Scheduler, SchedulerLimits
from lilliput.engine.sequence import Sequence

CALLERS = ("ann", "bob", "cy", "dee")
schedules = st.lists(st.one_of(st.sampled_from(CALLERS), st.none()), max_size=120)
"""Who asks next; None: the first of the line is let in."""


@dataclass(eq=False)
class One:
    caller: str
    number: int
    rank: float = 0.0


class Line:
    """A line as the scheduler keeps it: by rank, and of arrival where ranks are equal."""

    def __init__(self) -> None:
        self.waiting: list[One] = []
        self.count = 0

    def join(self, caller: str) -> One:
        newcomer = One(caller, self.count)
        newcomer.rank = fair_rank(self.waiting, caller, float(self.count))
        self.count += 1
        insort(self.waiting, newcomer, key=attrgetter("rank"))
        return newcomer


def test_a_second_caller_waits_for_one_request_of_the_first_not_for_all_60() -> None:
    line = Line()
    for _ in range(60):
        line.join("ann")
    first = line.join("bob")
    second = line.join("bob")
    assert line.waiting.index(first) == 1
    assert line.waiting.index(second) == 3


def test_callers_take_turns_whatever_the_order_in_which_they_came() -> None:
    line = Line()
    for caller in ("ann",) * 3 + ("bob",) * 3 + ("cy",) * 2:
        line.join(caller)
    assert [one.caller for one in line.waiting] == ["ann", "bob", "cy", "ann", "bob", "cy", "ann", "bob"]


@given(st.integers(0, 50))
def test_a_caller_who_is_alone_keeps_the_order_and_the_ranks_of_arrival(count: int) -> None:
    line = Line()
    for _ in range(count):
        line.join("ann")
    assert [one.rank for one in line.waiting] == [float(number) for number in range(count)]
    assert place(["ann"] * count, "ann") == count


@settings(max_examples=400, deadline=None)
@given(schedules)
def test_nobody_starves_and_each_caller_is_served_in_order(schedule: list[str | None]) -> None:
    line = Line()
    served: list[One] = []
    for caller in schedule:
        if caller is None:
            if line.waiting:
                served.append(line.waiting.pop(0))
            continue
        leaders = {one.caller: one for one in reversed(line.waiting)}
        ahead = {name: line.waiting.index(one) for name, one in leaders.items()}
        newcomer = line.join(caller)
        # The next of each caller is never overtaken, so it is served after all that are before it now.
        assert {name: line.waiting.index(one) for name, one in leaders.items()} == ahead
        before = line.waiting[: line.waiting.index(newcomer)]
        own = sum(one.caller == caller for one in before)
        for other in CALLERS:
            assert sum(one.caller == other for one in before) <= own + 2 or other == caller
        assert [one.rank for one in line.waiting] == sorted(one.rank for one in line.waiting)
    served += line.waiting
    for caller in CALLERS:
        numbers = [one.number for one in served if one.caller == caller]
        assert numbers == sorted(numbers)
    assert len(served) == sum(caller is not None for caller in schedule)


def test_equal_times_do_not_undo_the_turns() -> None:
    line: list[One] = []
    for number, caller in enumerate(("ann", "ann", "ann", "bob")):
        newcomer = One(caller, number)
        newcomer.rank = fair_rank(line, caller, 5.0)
        insort(line, newcomer, key=attrgetter("rank"))
    assert [one.caller for one in line] == ["ann", "bob", "ann", "ann"]


@given(st.lists(st.sampled_from(CALLERS), max_size=40))
def test_a_line_in_turns_has_the_same_members_in_rounds(callers: list[str]) -> None:
    turns = in_turns(enumerate(callers), lambda pair: pair[1])
    assert sorted(turns) == list(enumerate(callers))
    rounds = [sum(other == caller for _, other in turns[:index]) for index, (_, caller) in enumerate(turns)]
    assert rounds == sorted(rounds)


def scheduler(slots: int) -> Scheduler:
    cache = PrefixCache(slots + 4, can_roll_back=True, idle_limit_tokens=10_000)
    return Scheduler(SchedulerLimits(slots, 1000, 64, gap_s=0.1), cache, Pace(0.1, 64))


def ask(plan: Scheduler, number: int, caller: str, *, urgent: bool = True) -> Sequence:
    sequence = Sequence(number, [number * 1000 + n for n in range(4)], 4, urgent=urgent, caller=caller)
    sequence.rank = plan.rank_of(sequence, number if urgent else number + 30.0)
    plan.add(sequence)
    return sequence


def test_the_scheduler_lets_callers_in_by_turns_and_tells_positions() -> None:
    plan = scheduler(slots=1)
    ask(plan, 0, "ann")
    plan.admit(lambda _: None)
    many = [ask(plan, number, "ann") for number in range(1, 5)]
    late = ask(plan, 5, "bob")
    assert plan.position_of(late) == 2
    assert [plan.position_of(one) for one in many] == [1, 3, 4, 5]
    plan.remove(plan.running[0])
    assert plan.admit(lambda _: None) == [many[0]]
    plan.remove(plan.running[0])
    assert plan.admit(lambda _: None) == [late]


def test_who_is_not_urgent_comes_after_those_who_are_whoever_asks() -> None:
    plan = scheduler(slots=1)
    batch = [ask(plan, number, "ann", urgent=False) for number in range(3)]
    urgent = ask(plan, 3, "ann")
    other = ask(plan, 4, "bob", urgent=False)
    assert plan.waiting == [urgent, batch[0], other, batch[1], batch[2]]


def test_a_free_slot_has_no_position() -> None:
    plan = scheduler(slots=2)
    assert plan.position_of(ask(plan, 0, "ann")) == 0
    assert plan.position_of(ask(plan, 1, "bob")) == 0
    assert plan.position_of(ask(plan, 2, "cy")) == 1
