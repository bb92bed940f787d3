"""Prefixes that had to leave the KV cache, kept in memory as the library serializes them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence as Tokens
from dataclasses import dataclass
from typing import Protocol

from lilliput.engine.prefix_tree import PrefixTree

State = bytes | memoryview
"""The cells of a sequence, as the library serializes them."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredPrefix:
    """A sequence's tokens, all of them decoded, and its state."""

    key: int
    tokens: list[int]
    state: State


class Shelf(Protocol):
    """Where states outlive the process."""

    def keep(self, tokens: list[int], state: State, /) -> None:
        """Keep a state, or know it as used now; returns at once."""
        ...


class PrefixStore:
    """At most ``limit_bytes`` of states; those used longest ago go first. What extends a stored prefix replaces it.

    What comes in and what is used is told to the ``shelf``, if there is one.
    """

    def __init__(self, limit_bytes: int, shelf: Shelf | None = None) -> None:
        self._limit_bytes = limit_bytes
        self._shelf = shelf
        self._stored: OrderedDict[int, StoredPrefix] = OrderedDict()
        self._tree = PrefixTree()
        self._last_key = 0
        self.used_bytes = 0

    def __len__(self) -> int:
        return len(self._stored)

    def takes(self, size_bytes: int) -> bool:
        """Whether a state of this size may be kept at all."""
        return size_bytes <= self._limit_bytes

    def covers(self, tokens: Tokens[int]) -> bool:
        """Whether these tokens are a prefix of what is stored."""
        return any(common == len(tokens) for _, common in self._tree.matches(tokens)[:1])

    def put(self, tokens: list[int], state: State) -> None:
        """Keep a state; those used longest ago make room."""
        if not self.takes(len(state)):
            return
        for key, common in self._tree.matches(tokens):
            if common == len(self._stored[key].tokens):
                self._remove(key)
        while self.used_bytes + len(state) > self._limit_bytes:
            self._remove(next(iter(self._stored)))
        self._last_key += 1
        self._stored[self._last_key] = StoredPrefix(self._last_key, tokens, state)
        self._tree.put(self._last_key, tokens)
        self.used_bytes += len(state)
        if self._shelf is not None:
            self._shelf.keep(tokens, state)

    def clear(self) -> None:
        """Keep nothing any more; the shelf keeps what it has."""
        for key in [*self._stored]:
            self._remove(key)

    def best(self, wanted: Tokens[int], *, whole: bool) -> tuple[StoredPrefix | None, int]:
        """The state with the longest common prefix, and its length; ``whole``: only states that are prefixes as they
        are.
        """
        for key, common in self._tree.matches(wanted):
            stored = self._stored[key]
            if common and (not whole or common == len(stored.tokens)):
                return stored, common
        return None, 0

    def touch(self, stored: StoredPrefix) -> None:
        """It was used now."""
        self._stored.move_to_end(stored.key)
        if self._shelf is not None:
            self._shelf.keep(stored.tokens, stored.state)

    def _remove(self, key: int) -> None:
        self._tree.remove(key)
        self.used_bytes -= len(self._stored.pop(key).state)
