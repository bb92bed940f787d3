"""Prefixes that had to leave the KV cache, kept in memory as the library serializes them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence as Tokens
from dataclasses import dataclass

HEAD_TOKENS = 16
"""Tokens that are compared first: most prefixes differ from others early."""


def common_prefix(left: Tokens[int], right: Tokens[int]) -> int:
    """Length of the longest common prefix, by bisection over slice comparisons."""
    low, high = 0, min(len(left), len(right))
    if high > HEAD_TOKENS and left[:HEAD_TOKENS] != right[:HEAD_TOKENS]:
        high = HEAD_TOKENS - 1
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


@dataclass(frozen=True, slots=True, eq=False)
class StoredPrefix:
    """A sequence's tokens, all of them decoded, and its state."""

    tokens: list[int]
    state: bytes


class PrefixStore:
    """At most ``limit_bytes`` of states; those used longest ago go first. What extends a stored prefix replaces it."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._stored: OrderedDict[int, StoredPrefix] = OrderedDict()
        self.used_bytes = 0

    def __len__(self) -> int:
        return len(self._stored)

    def takes(self, size_bytes: int) -> bool:
        """Whether a state of this size may be kept at all."""
        return size_bytes <= self._limit_bytes

    def covers(self, tokens: Tokens[int]) -> bool:
        """Whether these tokens are a prefix of what is stored."""
        return any(common_prefix(tokens, one.tokens) == len(tokens) for one in self._stored.values())

    def put(self, tokens: list[int], state: bytes) -> None:
        """Keep a state; those used longest ago make room."""
        if not self.takes(len(state)):
            return
        for key, one in list(self._stored.items()):
            if common_prefix(tokens, one.tokens) == len(one.tokens):
                self._remove(key)
        while self.used_bytes + len(state) > self._limit_bytes:
            self._remove(next(iter(self._stored)))
        stored = StoredPrefix(tokens, state)
        self._stored[id(stored)] = stored
        self.used_bytes += len(state)

    def best(self, wanted: Tokens[int], *, whole: bool) -> tuple[StoredPrefix | None, int]:
        """The state with the longest common prefix, and its length; ``whole``: only states that are prefixes as they
        are.
        """
        found: StoredPrefix | None = None
        length = 0
        for one in self._stored.values():
            count = common_prefix(wanted, one.tokens)
            if count > length and (not whole or count == len(one.tokens)):
                found, length = one, count
        return found, length

    def touch(self, stored: StoredPrefix) -> None:
        """It was used now."""
        self._stored.move_to_end(id(stored))

    def _remove(self, key: int) -> None:
        self.used_bytes -= len(self._stored.pop(key).state)
