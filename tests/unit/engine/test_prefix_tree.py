from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lilliput.engine.prefix_tree import PrefixTree, common_prefix

TOKENS = st.lists(st.integers(0, 2), max_size=8)


def counted(left: list[int], right: list[int]) -> int:
    pairs = zip(left, right, strict=False)
    return next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(left), len(right)))


def test_common_prefix_counts_equal_leading_tokens() -> None:
    assert common_prefix([1, 2, 3], [1, 2, 4, 5]) == 2
    assert common_prefix([], [1]) == 0
    assert common_prefix(list(range(1000)), list(range(1000))) == 1000


@given(st.lists(st.integers(0, 1), max_size=60), st.lists(st.integers(0, 1), max_size=60), st.integers(0, 40))
def test_common_prefix_counts_exactly(left: list[int], right: list[int], shared: int) -> None:
    left, right = [5] * shared + left, [5] * shared + right
    assert common_prefix(left, right) == counted(left, right)


@given(st.lists(st.tuples(st.integers(0, 6), st.one_of(st.none(), TOKENS)), max_size=30), TOKENS)
def test_the_tree_finds_what_a_comparison_with_every_list_finds(
    changes: list[tuple[int, list[int] | None]], wanted: list[int]
) -> None:
    tree = PrefixTree()
    lists: dict[int, list[int]] = {}
    for key, tokens in changes:
        if tokens is None:
            tree.remove(key)
            lists.pop(key, None)
        else:
            tree.put(key, tokens)
            lists[key] = tokens
        found = tree.matches(wanted)
        assert dict(found) == {one: counted(wanted, other) for one, other in lists.items()}
        assert len(found) == len(tree) == len(lists)
        assert [length for _, length in found] == sorted((length for _, length in found), reverse=True)


def test_a_tree_that_was_emptied_holds_nothing() -> None:
    tree = PrefixTree()
    for key in range(4):
        tree.put(key, [*[1, 2, 3][:key], 7, key])
    for key in range(4):
        tree.remove(key)
    assert tree.matches([1, 2, 3]) == []
    assert tree._root.children == {}


def test_the_version_tells_of_changes_only() -> None:
    tree = PrefixTree()
    tree.put(1, [1, 2])
    before = tree.version
    tree.matches([1])
    tree.remove(5)
    assert tree.version == before
    tree.remove(1)
    assert tree.version != before
