from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lilliput.engine.prefix_store import PrefixStore


def test_the_longest_common_prefix_is_found() -> None:
    store = PrefixStore(100)
    store.put([1, 2, 3, 4], b"ab")
    store.put([1, 2, 9], b"cd")
    found, count = store.best([1, 2, 3, 7], whole=False)
    assert found is not None
    assert (found.state, count) == (b"ab", 3)


def test_of_models_that_cannot_roll_back_only_whole_prefixes_count() -> None:
    store = PrefixStore(100)
    store.put([1, 2, 3, 4], b"ab")
    assert store.best([1, 2, 3, 7], whole=True) == (None, 0)
    assert store.best([1, 2, 3, 4, 5], whole=True)[1] == 4


def test_what_was_used_longest_ago_goes_first() -> None:
    store = PrefixStore(4)
    store.put([1, 1], b"aa")
    store.put([2, 2], b"bb")
    touched, _ = store.best([1, 1], whole=False)
    assert touched is not None
    store.touch(touched)
    store.put([3, 3], b"cc")
    assert [store.best([n, n], whole=False)[1] for n in (1, 2, 3)] == [2, 0, 2]


def test_a_longer_one_takes_the_place_of_its_prefix() -> None:
    store = PrefixStore(100)
    store.put([1, 2], b"aa")
    store.put([1, 2, 3], b"bbb")
    assert (len(store), store.used_bytes) == (1, 3)
    assert store.covers([1, 2])


def test_what_is_too_large_is_not_kept() -> None:
    store = PrefixStore(1)
    store.put([1], b"aa")
    assert (len(store), store.takes(2)) == (0, False)


@given(st.lists(st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=6), st.integers(0, 40))))
def test_the_limit_holds_and_the_count_of_bytes_is_right(puts: list[tuple[list[int], int]]) -> None:
    store = PrefixStore(64)
    for tokens, size in puts:
        store.put(tokens, bytes(size))
        assert store.used_bytes <= 64
        assert store.covers(tokens)


def test_all_can_be_forgotten_at_once() -> None:
    store = PrefixStore(100)
    store.put([1, 2], b"a" * 10)
    store.put([3], b"b" * 20)
    store.clear()
    assert (len(store), store.used_bytes, store.best([1, 2], whole=False)) == (0, 0, (None, 0))
    store.put([1], b"c")
    assert store.used_bytes == 1
