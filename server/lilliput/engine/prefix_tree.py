"""Which token lists begin like a given one: a radix tree. Pure.

Looking up takes time in proportion to what is matched, however many lists are in the tree.
"""

from __future__ import annotations

from collections.abc import Sequence as Tokens


def common_prefix(left: Tokens[int], right: Tokens[int]) -> int:
    """Length of the longest common prefix, by bisection over slice comparisons."""
    low, high = 0, min(len(left), len(right))
    if left[:high] == right[:high]:
        return high
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


class _Node:
    """The tokens ``edge`` after those of ``parent``; ``keys`` are of all lists that have them."""

    __slots__ = ("children", "edge", "keys", "parent")

    def __init__(self, edge: list[int], keys: set[int], parent: _Node | None) -> None:
        self.edge = edge
        self.keys = keys
        self.parent = parent
        self.children: dict[int, _Node] = {}


class PrefixTree:
    """Token lists by key. ``version`` changes whenever they do."""

    def __init__(self) -> None:
        self._root = _Node([], set(), None)
        self._ends: dict[int, _Node] = {}
        self.version = 0

    def __len__(self) -> int:
        return len(self._ends)

    def put(self, key: int, tokens: Tokens[int]) -> None:
        """Set the tokens of a key."""
        self.remove(key)
        self.version += 1
        node, at = self._root, 0
        node.keys.add(key)
        while at < len(tokens):
            child = node.children.get(tokens[at])
            if child is None:
                child = node.children[tokens[at]] = _Node(list(tokens[at:]), set(), node)
                at = len(tokens)
            else:
                count = common_prefix(child.edge, tokens[at : at + len(child.edge)])
                if count < len(child.edge):
                    child = _split(child, count)
                at += count
            child.keys.add(key)
            node = child
        self._ends[key] = node

    def remove(self, key: int) -> None:
        """Forget a key; one that is not there is ignored."""
        node = self._ends.pop(key, None)
        if node is None:
            return
        self.version += 1
        while node is not None:
            node.keys.discard(key)
            parent = node.parent
            if parent is not None and not node.keys:
                del parent.children[node.edge[0]]
            elif len(node.children) == 1 and parent is not None:
                self._join(node)
            node = parent

    def matches(self, tokens: Tokens[int]) -> list[tuple[int, int]]:
        """Every key with the length of the prefix that its list shares with ``tokens``, the longest first."""
        node, at = self._root, 0
        path = [(0, node)]
        while at < len(tokens) and (child := node.children.get(tokens[at])) is not None:
            count = common_prefix(child.edge, tokens[at : at + len(child.edge)])
            at += count
            path.append((at, child))
            if count < len(child.edge):
                break
            node = child
        found: list[tuple[int, int]] = []
        deeper: set[int] = set()
        for length, one in reversed(path):
            found += [(key, length) for key in one.keys - deeper]
            deeper = one.keys
        return found

    def _join(self, node: _Node) -> None:
        """Make one node of a node and its only child, if nothing ends between them."""
        (child,) = node.children.values()
        if len(child.keys) < len(node.keys):
            return
        node.edge += child.edge
        node.children = child.children
        for grandchild in node.children.values():
            grandchild.parent = node
        for key in child.keys:
            if self._ends[key] is child:
                self._ends[key] = node


def _split(node: _Node, count: int) -> _Node:
    """Put a node with the first ``count`` tokens of the edge of ``node`` above it."""
    parent = node.parent
    assert parent is not None
    upper = _Node(node.edge[:count], set(node.keys), parent)
    parent.children[node.edge[0]] = upper
    node.edge, node.parent = node.edge[count:], upper
    upper.children[node.edge[0]] = node
    return upper
