from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from lilliput.engine.pace import Pace
from lilliput.engine.prefix_cache import CacheOperation, PrefixCache
from lilliput.engine.scheduler import Scheduler, SchedulerLimits
from lilliput.engine.sequence import Sequence


def ignore(operations: list[CacheOperation]) -> None:
    """There is no KV cache here."""


def scheduler(slots: int = 2, context: int = 1000, batch: int = 64, mixed: int = 16) -> Scheduler:
    """One whose passes may carry ``mixed`` prompt tokens while others generate."""
    made = Scheduler(
        SchedulerLimits(slots, context, batch, gap_s=0.1),
        PrefixCache(slots + 4, can_roll_back=True, idle_limit_tokens=10_000),
        Pace(0.1, batch),
    )
    made.pace.note(1, 100, 100 * 0.1 / (mixed + 0.5))
    return made


def sequence(count: int, number: int = 0, first: int = 0) -> Sequence:
    return Sequence(number, [first * 1000 + n for n in range(count)], count)


def decode(plan: Scheduler) -> list[Sequence]:
    """Pretend to run a step; returns the sequences whose next token can be drawn."""
    ready = []
    for one in plan.plan():
        one.sequence.decoded += one.count
        if one.sequence.remaining == 0:
            ready.append(one.sequence)
    return ready


def test_no_more_sequences_run_than_there_are_slots() -> None:
    plan = scheduler(slots=2)
    for number in range(3):
        plan.add(sequence(4, number, first=number))
    plan.admit(ignore)
    assert [one.id for one in plan.running] == [0, 1]
    assert [one.id for one in plan.waiting] == [2]


def test_prompts_are_prefilled_in_order_of_arrival_within_the_batch() -> None:
    plan = scheduler(batch=64)
    first, second = sequence(50, 1, first=1), sequence(50, 2, first=2)
    plan.add(first)
    plan.add(second)
    plan.admit(ignore)
    assert [(one.sequence.id, one.start, one.count) for one in plan.plan()] == [(1, 0, 50), (2, 0, 14)]


def test_a_long_prompt_takes_only_a_small_part_of_a_step_while_others_generate() -> None:
    plan = scheduler(batch=64, mixed=16)
    talking, long = sequence(1, 1, first=1), sequence(500, 2, first=2)
    plan.add(talking)
    plan.add(long)
    plan.admit(ignore)
    slices = plan.plan()
    assert [(one.sequence.id, one.count, one.completes) for one in slices] == [(1, 1, True), (2, 16, False)]


def test_a_prompt_waits_while_the_cells_are_taken_and_enters_when_they_are_free() -> None:
    plan = scheduler(slots=4, context=100)
    big, small = sequence(90, 1, first=1), sequence(20, 2, first=2)
    plan.add(big)
    plan.add(small)
    plan.admit(ignore)
    assert plan.running == [big]
    plan.remove(big, keep=False)
    plan.admit(ignore)
    assert plan.running == [small]


def test_a_sequence_that_waits_for_a_shared_prefix_lets_others_pass() -> None:
    plan = scheduler(slots=4, batch=20)
    leader, follower, other = sequence(100, 1), sequence(100, 2), sequence(5, 3, first=7)
    for one in (leader, follower, other):
        plan.add(one)
    plan.admit(ignore)
    assert [one.id for one in plan.running] == [1, 3]
    while leader.remaining:
        decode(plan)
    plan.admit(ignore)
    assert follower.decoded == 99


def test_preemption_sends_the_youngest_back_to_the_head_of_the_queue() -> None:
    plan = scheduler(slots=2)
    old, young, waiting = sequence(5, 1, first=1), sequence(5, 2, first=2), sequence(5, 3, first=3)
    for one in (old, young, waiting):
        plan.add(one)
    plan.admit(ignore)
    decode(plan)
    assert plan.preempt()
    assert plan.running == [old]
    assert list(plan.waiting) == [young, waiting]
    assert young.decoded == 0
    assert plan.preempt() == []


def test_a_waiting_sequence_can_be_removed() -> None:
    plan = scheduler(slots=1)
    running, waiting = sequence(5, 1, first=1), sequence(5, 2, first=2)
    plan.add(running)
    plan.add(waiting)
    plan.admit(ignore)
    assert plan.remove(waiting) == []
    assert not plan.waiting


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 80), min_size=1, max_size=12),
    answers=st.integers(1, 20),
    share=st.booleans(),
    preempt=st.sampled_from([lambda _: False, lambda n: n % 7 == 0]),
)
def test_every_sequence_ends_whatever_arrives(
    sizes: list[int], answers: int, share: bool, preempt: Callable[[int], bool]
) -> None:
    cache = PrefixCache(6, can_roll_back=True, idle_limit_tokens=10_000)
    plan = Scheduler(SchedulerLimits(3, 200, 32, 8), cache, Pace(8, 32))
    for number, size in enumerate(sizes):
        plan.add(sequence(size, number, first=0 if share else number))
    for step in range(1, 3000):
        if not plan.has_work:
            break
        plan.admit(ignore)
        cache.check_integrity()
        assert plan.running, "work but nothing runs"
        slices = plan.plan()
        assert slices
        assert sum(one.count for one in slices) <= 32
        if preempt(step):
            plan.preempt()
            continue
        for one in slices:
            one.sequence.decoded += one.count
            if one.sequence.remaining == 0:
                one.sequence.tokens.append(5)
                if one.sequence.generated >= answers:
                    plan.remove(one.sequence)
    assert not plan.has_work


def test_the_urgent_go_first_and_equals_in_order_of_arrival() -> None:
    plan = scheduler(slots=1)
    ranked = [(1, 5.0), (2, 35.0), (3, 6.0), (4, 5.0)]
    for number, rank in ranked:
        one = sequence(4, number, first=number)
        one.rank = rank
        plan.add(one)
    entered = []
    while plan.waiting:
        plan.admit(ignore)
        entered.append(plan.running[0].id)
        plan.remove(plan.running[0], keep=False)
    assert entered == [1, 4, 3, 2]


def test_who_is_sent_back_is_the_youngest_of_the_least_urgent() -> None:
    plan = scheduler(slots=3)
    for number, rank in ((1, 1.0), (2, 40.0), (3, 3.0)):
        one = sequence(4, number, first=number)
        one.rank = rank
        plan.add(one)
    plan.admit(ignore)
    plan.preempt()
    assert [one.id for one in plan.running] == [1, 3]
    assert [one.id for one in plan.waiting] == [2]


def test_who_shares_a_prefix_is_charged_for_it_when_its_source_has_gone() -> None:
    plan = scheduler(slots=4, batch=1000)
    leader, follower, other = sequence(600, 1), sequence(610, 2), sequence(450, 3, first=7)
    plan.add(leader)
    plan.add(follower)
    plan.admit(ignore)
    decode(plan)
    plan.admit(ignore)
    decode(plan)
    plan.remove(leader, keep=False)
    plan.add(other)
    plan.admit(ignore)
    assert plan.running == [follower]
    plan.remove(follower, keep=False)
    plan.admit(ignore)
    assert plan.running == [other]


def test_a_follower_is_let_in_beside_the_leader_whose_cells_it_shares() -> None:
    plan = scheduler(slots=4, batch=1000)
    leader, follower, other = sequence(600, 1), sequence(640, 2), sequence(20, 3, first=7)
    for one in (leader, follower, other):
        plan.add(one)
    plan.admit(ignore)
    assert plan.running == [leader, other]
    decode(plan)
    plan.admit(ignore)
    assert plan.running == [leader, other, follower]


def test_what_a_newcomer_needs_is_done_before_the_next_one_is_looked_at() -> None:
    plan = scheduler(slots=4)
    for number in (1, 2):
        plan.add(sequence(40, number, first=number))
    seen = []
    plan.admit(lambda _operations: seen.append(len(plan.running)))
    assert sorted(set(seen)) == [1, 2]


def test_an_urgent_sequence_takes_slot_and_cells_from_one_that_is_not_and_came_later_in_rank() -> None:
    for slots, tokens in ((1, 10), (4, 600)):
        plan = scheduler(slots=slots)
        batch = sequence(tokens, 1, first=1)
        batch.rank, batch.urgent = 30.0, False
        plan.add(batch)
        plan.admit(ignore)
        late, early = sequence(tokens, 2, first=2), sequence(tokens, 3, first=3)
        late.rank, early.rank = 31.0, 5.0
        plan.add(late)
        plan.admit(ignore)
        assert plan.running == [batch]
        plan.add(early)
        plan.admit(ignore)
        assert plan.running == [early]
        assert plan.waiting == [batch, late]
