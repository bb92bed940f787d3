from __future__ import annotations

from lilliput.engine.prefix_cache import CacheOperation, PrefixCache
from lilliput.engine.prefix_store import PrefixStore
from lilliput.engine.sequence import Sequence


def sequence(*tokens: int, number: int = 0) -> Sequence:
    return Sequence(number, list(tokens), len(tokens))


def run_to_end(cache: PrefixCache, one: Sequence) -> None:
    one.decoded = len(one.tokens)
    cache.release(one, keep=True)


def test_a_newcomer_takes_over_an_idle_sequence_that_it_extends() -> None:
    cache = PrefixCache(4, can_roll_back=True, idle_limit_tokens=10_000)
    first = sequence(1, 2, 3)
    cache.acquire(first)
    slot = first.slot
    run_to_end(cache, first)
    longer = sequence(1, 2, 3, 4, 5)
    assert cache.acquire(longer) == []
    assert (longer.slot, longer.decoded, cache.cells_of(longer)) == (slot, 3, 5)


def test_a_newcomer_that_diverges_copies_the_common_part_and_leaves_the_rest() -> None:
    cache = PrefixCache(4, can_roll_back=True, idle_limit_tokens=10_000)
    first = sequence(1, 2, 3, 4)
    cache.acquire(first)
    source = first.slot
    run_to_end(cache, first)
    other = sequence(1, 2, 9)
    assert cache.acquire(other) == [CacheOperation("copy", other.slot, 2, source)]
    assert other.decoded == 2
    assert (cache.idle_tokens, cache.cells) == (2, 4)


def test_at_least_one_token_is_left_to_decode() -> None:
    cache = PrefixCache(4, can_roll_back=True, idle_limit_tokens=10_000)
    first = sequence(1, 2, 3)
    cache.acquire(first)
    run_to_end(cache, first)
    same = sequence(1, 2, 3)
    cache.acquire(same)
    assert same.decoded == 2


def test_only_decoded_tokens_of_a_running_sequence_are_copied() -> None:
    cache = PrefixCache(4, can_roll_back=True, idle_limit_tokens=10_000)
    running = sequence(*range(10))
    cache.acquire(running)
    running.decoded = 4
    other = sequence(*range(10))
    assert cache.acquire(other) == [CacheOperation("copy", other.slot, 4, running.slot)]
    assert cache.cells_of(other) == 6


def test_a_newcomer_waits_for_a_long_prefix_that_is_being_prefilled() -> None:
    cache = PrefixCache(4, can_roll_back=True, idle_limit_tokens=10_000)
    running = sequence(*range(100))
    cache.acquire(running)
    running.decoded = 10
    assert cache.leader_of(sequence(*range(90), 777)) is running
    assert cache.leader_of(sequence(*range(30), 777)) is None
    running.decoded = 99
    assert cache.leader_of(sequence(*range(90), 777)) is None


def test_the_idle_sequence_unused_longest_gives_way() -> None:
    cache = PrefixCache(2, can_roll_back=True, idle_limit_tokens=10_000)
    old, new = sequence(1, 2), sequence(3, 4)
    for one in (old, new):
        cache.acquire(one)
    old_slot = old.slot
    for one in (old, new):
        run_to_end(cache, one)
    newcomer = sequence(9, 9)
    assert cache.acquire(newcomer) == [CacheOperation("drop", old_slot)]


def test_the_only_idle_sequence_is_cut_and_taken_over_when_no_slot_is_left_for_a_copy() -> None:
    cache = PrefixCache(1, can_roll_back=True, idle_limit_tokens=10_000)
    first = sequence(1, 2, 3)
    cache.acquire(first)
    run_to_end(cache, first)
    other = sequence(1, 9)
    assert cache.acquire(other) == [CacheOperation("truncate", 0, 1)]
    assert other.decoded == 1


def test_a_model_that_cannot_roll_back_reuses_whole_sequences_only() -> None:
    cache = PrefixCache(4, can_roll_back=False, idle_limit_tokens=10_000)
    first = sequence(1, 2, 3)
    cache.acquire(first)
    run_to_end(cache, first)
    diverging = sequence(1, 2, 9)
    assert cache.acquire(diverging) == []
    assert diverging.decoded == 0
    extending = sequence(1, 2, 3, 4)
    cache.acquire(extending)
    assert extending.decoded == 3
    assert cache.leader_of(sequence(*range(100))) is None


def test_choices_of_one_prompt_wait_for_a_model_that_cannot_roll_back_to_have_all_but_its_last_token() -> None:
    cache = PrefixCache(4, can_roll_back=False, idle_limit_tokens=10_000)
    leader, sibling, other = sequence(*range(100)), sequence(*range(100), number=1), sequence(*range(90), 7, number=2)
    cache.acquire(leader)
    assert cache.leader_of(sibling) is leader
    assert cache.leader_of(other) is None
    leader.decoded = 99
    assert cache.leader_of(sibling) is None
    assert [(one.kind, one.count) for one in cache.acquire(sibling)] == [("copy", 99)]
    assert cache.acquire(other) == []


def test_a_sequence_released_without_keeping_leaves_nothing() -> None:
    cache = PrefixCache(2, can_roll_back=True, idle_limit_tokens=10_000)
    one = sequence(1, 2, 3)
    cache.acquire(one)
    slot = one.slot
    one.decoded = 2
    assert cache.release(one, keep=False) == [CacheOperation("drop", slot)]
    assert cache.evict() == []
    assert cache.idle_tokens == 0


def test_idle_sequences_beyond_the_limit_go_oldest_first_but_the_newest_stays() -> None:
    cache = PrefixCache(8, can_roll_back=True, idle_limit_tokens=10)
    sequences = [sequence(*range(start, start + 4)) for start in (0, 100, 200)]
    for one in sequences:
        cache.acquire(one)
    slots = [one.slot for one in sequences]
    for one in sequences[:2]:
        run_to_end(cache, one)
    assert cache.idle_tokens == 8
    sequences[2].decoded = 4
    assert cache.release(sequences[2], keep=True) == [CacheOperation("drop", slots[0])]
    long = sequence(*range(300, 350))
    cache.acquire(long)
    run_to_end(cache, long)
    assert cache.idle_tokens == 50


def test_what_has_to_leave_is_saved_and_comes_back_for_who_wants_it() -> None:
    store = PrefixStore(1000)
    cache = PrefixCache(2, can_roll_back=True, idle_limit_tokens=0, store=store)
    first, second = sequence(*range(50), 0, number=1), sequence(*range(100, 150), 0, number=2)
    for one in (first, second):
        cache.acquire(one)
        run_to_end(cache, one)
    third = sequence(*range(200, 250), 0, number=3)
    cache.acquire(third)
    fourth = sequence(*range(300, 350), 0, number=4)
    operations = cache.acquire(fourth)
    assert [(one.kind, one.tokens[:1]) for one in operations] == [("save", [100]), ("drop", [])]
    store.put(operations[0].tokens, b"state")
    cache.release(third, keep=False)
    again = sequence(*range(100, 140), 7, 8, number=5)
    assert [(one.kind, one.count) for one in cache.acquire(again)] == [("restore", 40), ("truncate", 40)]
    assert again.decoded == 40
    cache.check_integrity()


def test_what_others_hold_anyway_is_not_saved() -> None:
    cache = PrefixCache(3, can_roll_back=True, idle_limit_tokens=1000, store=PrefixStore(1000))
    short, long = sequence(*range(50), 0, number=1), sequence(*range(80), 0, number=2)
    cache.acquire(short)
    short.decoded = 50
    cache.acquire(long)
    long.decoded = 80
    cache.release(short, keep=True)
    assert [one.kind for one in cache.evict()] == ["drop"]


def test_beside_a_newcomer_even_the_newest_idle_sequence_goes_where_it_can_come_back() -> None:
    for store, kinds in ((PrefixStore(1000), ["save", "drop"]), (None, [])):
        cache = PrefixCache(3, can_roll_back=True, idle_limit_tokens=10, store=store)
        old, new = sequence(*range(50), 0, number=1), sequence(*range(100, 150), 0, number=2)
        cache.acquire(old)
        run_to_end(cache, old)
        cache.acquire(new)
        assert [one.kind for one in cache.shed()] == kinds
        cache.check_integrity()


def test_what_would_be_lost_stays_until_its_slot_or_its_cells_are_needed() -> None:
    for keeps, kinds in ((True, ["save", "drop"]), (False, [])):
        cache = PrefixCache(
            2,
            can_roll_back=True,
            idle_limit_tokens=10,
            store=PrefixStore(1000),
            keeps=lambda slot, count, keeps=keeps: keeps,  # type: ignore[misc]
        )
        old, new = sequence(*range(50), number=1), sequence(*range(100, 150), number=2)
        cache.acquire(old)
        run_to_end(cache, old)
        cache.acquire(new)
        assert [one.kind for one in cache.shed()] == kinds
        assert [one.kind for one in cache.evict()] == ([] if keeps else ["save", "drop"])


def test_the_matches_of_a_waiting_sequence_are_looked_up_again_when_entries_change() -> None:
    cache = PrefixCache(4, can_roll_back=True, idle_limit_tokens=10_000)
    waiting = sequence(*range(100), 7)
    assert cache.cells_for(waiting) == 101
    running = sequence(*range(100))
    cache.acquire(running)
    running.decoded = 60
    assert cache.cells_for(waiting) == 41
    running.decoded = 100
    assert cache.cells_for(waiting) == 1
    cache.release(running, keep=False)
    assert cache.cells_for(waiting) == 101


def test_idle_sequences_are_forgotten_unsaved_and_running_ones_stay() -> None:
    store = PrefixStore(10_000)
    cache = PrefixCache(4, can_roll_back=True, idle_limit_tokens=10_000, store=store)
    running, idle = sequence(*range(100)), sequence(*range(50), *range(200, 260))
    for one in (running, idle):
        cache.acquire(one)
    run_to_end(cache, idle)
    slot = next(slot for slot in cache.holdings() if slot != running.slot)
    assert cache.drop_idle() == [CacheOperation("drop", slot)]
    assert list(cache.holdings()) == [running.slot]
    assert (cache.idle_tokens, cache.drop_idle()) == (0, [])
    cache.check_integrity()
