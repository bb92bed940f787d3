"""Whose cells of the KV cache are whose, so that each is counted once. Pure.

What is copied costs no cells: copy and source share them. An entry's ``source`` is another one that has its first
``shared`` cells too and is charged for them, or has a source itself that is. So the cells in use are the sum of
``own_cells``. The source of a running entry always runs, so the same sum over running entries is what these alone hold.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from lilliput.engine.sequence import Sequence


@dataclass(slots=True, eq=False)
class Entry:
    """One KV sequence: owned by a running request, or idle and kept for its prefix."""

    slot: int
    owner: Sequence | None = None
    kept: list[int] = field(default_factory=list)
    last_used: int = 0
    source: Entry | None = None
    shared: int = 0

    @property
    def decoded(self) -> int:
        """How many of its tokens have cells."""
        return self.owner.decoded if self.owner else len(self.kept)

    @property
    def own_cells(self) -> int:
        """Cells that no other entry is charged for."""
        return self.decoded - self.shared


def running_overlap(source: Entry, count: int) -> int:
    """How many of its first ``count`` cells a running entry is charged for: a copy by a newcomer adds the others."""
    one: Entry | None = source
    while one is not None and one.owner is None:
        count, one = min(count, one.shared), one.source
    return count if one is not None else 0


def share(newcomer: Entry, source: Entry | None, count: int) -> None:
    """A running entry has its first ``count`` cells in common with ``source``.

    Idle entries give way to it: what they have in common with it is charged to it from now on.
    """
    one = source
    while one is not None and one.owner is None:
        above, shared = one.source, one.shared
        if count > shared:
            one.source, one.shared = newcomer, count
        count, one = min(count, shared), above
    _set(newcomer, one, count)


def become_idle(entry: Entry, entries: Iterable[Entry]) -> None:
    """An entry runs no longer: the running ones that share its cells take over what it was charged for."""
    heir, count = _bequeath([one for one in entries if one.source is entry and one.owner is not None], entry)
    if count > entry.shared:
        entry.source, entry.shared = heir, count


def lose(entry: Entry, entries: Iterable[Entry]) -> None:
    """An entry has no cells any more; those who share them keep them."""
    copies = [one for one in entries if one.source is entry]
    idle = sorted((one for one in copies if one.owner is None), key=lambda one: -one.shared)
    heir, count = _bequeath([one for one in copies if one.owner is not None], entry)
    if count <= entry.shared:
        heir, count = entry.source, entry.shared
    _set(entry, None, 0)
    for one in idle[1:]:
        one.source = idle[0]
    for one in idle[:1]:
        _set(one, heir, min(one.shared, count))


def cut(entry: Entry, count: int, entries: Iterable[Entry]) -> None:
    """An idle entry keeps only its first ``count`` cells."""
    beyond = [one for one in entries if one.source is entry and one.shared > count]
    entry.shared = min(entry.shared, count)
    if beyond:
        longest = max(beyond, key=lambda one: one.shared)
        for one in beyond:
            one.source = longest
        _set(longest, entry, count)


def _bequeath(copies: list[Entry], entry: Entry) -> tuple[Entry | None, int]:
    """Charge the one of ``copies`` that shares most with the entry for that; returns it and how much it is."""
    if not copies:
        return None, 0
    heir = max(copies, key=lambda one: one.shared)
    count = heir.shared
    for one in copies:
        one.source = heir
    _set(heir, entry.source, min(count, entry.shared))
    return heir, count


def _set(entry: Entry, source: Entry | None, shared: int) -> None:
    entry.source, entry.shared = (source, shared) if source is not None and shared else (None, 0)
