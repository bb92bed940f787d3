"""Which KV sequences exist, what they hold, and how a newcomer can reuse them. Pure: it decides, the runner does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from lilliput.engine.cells import Entry, become_idle, cut, lose, running_overlap, share
from lilliput.engine.prefix_store import PrefixStore, StoredPrefix
from lilliput.engine.prefix_tree import PrefixTree
from lilliput.engine.sequence import Sequence

WORTH_WAITING_TOKENS = 32
"""A newcomer waits for a prefix that another sequence is prefilling when this many tokens are gained by it."""


@dataclass(frozen=True, slots=True)
class CacheOperation:
    """What the runner must do to the KV cache: ``copy`` cells [0, count) of source, ``truncate`` to count, ``drop``,
    ``save`` the state of ``tokens`` if that is worth it, or ``restore`` what was saved.
    """

    kind: Literal["copy", "truncate", "drop", "save", "restore"]
    slot: int
    count: int = 0
    source: int = -1
    tokens: list[int] = field(default_factory=list)
    stored: StoredPrefix | None = None


class PrefixCache:
    """Owner of the KV sequence ids 0 … ``max_sequences`` - 1.

    ``can_roll_back`` False (recurrent layers, small sliding-window caches) allows reuse only of whole sequences: idle
    ones are taken over, running ones copied.
    ``idle_limit_tokens`` bounds what is kept for reuse, because attention passes over idle cells too (measured on two
    CPU cores with a 135M model: about 8 % of a token's time for 1,500 of them); the newest idle sequence is kept
    whatever its length while nothing else runs. What has to leave goes to the ``store``, if there is one, and comes
    back when it is wanted. ``keeps`` tells of a slot and the tokens in it whether it would be saved: what would be lost
    stays until its cells or its slot are needed.
    """

    def __init__(
        self,
        max_sequences: int,
        *,
        can_roll_back: bool,
        idle_limit_tokens: int,
        store: PrefixStore | None = None,
        keeps: Callable[[int, int], bool] = lambda _slot, _count: True,
    ) -> None:
        self._idle_limit_tokens = idle_limit_tokens
        self._store = store
        self._keeps = keeps
        self._entries: dict[int, Entry] = {}
        self._tree = PrefixTree()
        self._free = list(range(max_sequences - 1, -1, -1))
        self.can_roll_back = can_roll_back
        self._clock = 0

    @property
    def cells(self) -> int:
        """Cells that hold something."""
        return sum(entry.own_cells for entry in self._entries.values())

    @property
    def idle_tokens(self) -> int:
        """Cells kept for reuse that no running request needs."""
        return sum(entry.own_cells for entry in self._entries.values() if entry.owner is None)

    def leader_of(self, sequence: Sequence) -> Sequence | None:
        """A running sequence that is about to have a much longer prefix of a waiting one than exists now.

        Where only whole sequences are reused, it must have all but the last token of its prompt in common, and stop
        before that.
        """
        for slot, common in self._matches(sequence):
            coming = min(common, len(sequence.tokens) - 1)
            if coming < WORTH_WAITING_TOKENS:
                return None
            owner = self._entries[slot].owner
            if owner is None or owner.remaining < 2 or not (self.can_roll_back or len(owner.tokens) - 1 <= coming):
                continue
            there = max(self._best(sequence)[1], self._stored(sequence)[1])
            return owner if coming - there >= WORTH_WAITING_TOKENS else None
        return None

    def cells_for(self, sequence: Sequence) -> int:
        """Cells that a waiting sequence needs for its tokens beside those of running ones."""
        source, count, stored = self._reusable(sequence)
        common = running_overlap(source, count) if source is not None and stored is None else 0
        return len(sequence.tokens) - common

    def cells_of(self, sequence: Sequence) -> int:
        """Cells that a running sequence needs for its tokens and that no other running one is charged for."""
        return len(sequence.tokens) - self._entries[sequence.slot].shared

    def acquire(self, sequence: Sequence) -> list[CacheOperation]:
        """Give the sequence a slot and the longest prefix that can be reused (at least one token stays to decode)."""
        source, count, stored = self._reusable(sequence)
        if stored is not None:
            return self._restore(stored, sequence, count)
        if source is None:
            operations = self._make_room(None)
            self._enter(sequence, 0)
            return operations
        if source.owner is None and count == len(source.kept):
            return self._take_over(source, sequence, count)
        operations = self._make_room(source)
        if not self._free:
            return [*operations, *self._take_over(source, sequence, count)]
        entry = self._enter(sequence, count)
        share(entry, source, count)
        source.last_used = self._tick()
        return [*operations, CacheOperation("copy", entry.slot, count, source.slot)]

    def release(self, sequence: Sequence, *, keep: bool) -> list[CacheOperation]:
        """Take the slot from a sequence; ``keep`` leaves its decoded tokens for others to reuse."""
        entry = self._rest(sequence)
        return self._trim() if keep and entry.kept else self._drop(entry)

    def shed(self) -> list[CacheOperation]:
        """Once a newcomer has taken what it could use: let even the newest idle sequence go, if it can come back."""
        return self._trim(newest_stays=False)

    def set_aside(self, sequence: Sequence) -> list[CacheOperation]:
        """Take slot and cells from a sequence that will come back for them."""
        return self._spill(self._rest(sequence))

    def cut_back(self, sequence: Sequence, count: int) -> list[CacheOperation]:
        """Take the slot from a sequence of which only the first ``count`` tokens will stay; they wait for it."""
        entry = self._rest(sequence)
        if not (count and self.can_roll_back):
            return self._drop(entry)
        cut(entry, count, self._entries.values())
        entry.kept = entry.kept[:count]
        self._tree.put(entry.slot, entry.kept)
        return [CacheOperation("truncate", entry.slot, count)]

    def lost(self, slot: int) -> None:
        """The cells of a running sequence are gone, not its slot: it has to be computed from its beginning."""
        entry = self._entries[slot]
        lose(entry, self._entries.values())
        assert entry.owner is not None
        entry.owner.decoded = 0

    def evict(self) -> list[CacheOperation]:
        """Drop the idle sequence that was used longest ago; empty when there is none."""
        idle = self._idle()
        return self._spill(idle[0]) if idle else []

    def drop_idle(self) -> list[CacheOperation]:
        """Let all idle sequences go, and save none."""
        return [operation for entry in self._idle() for operation in self._drop(entry)]

    def holdings(self) -> dict[int, int]:
        """Cells of every slot that has an entry, shared ones included."""
        return {slot: entry.decoded for slot, entry in self._entries.items()}

    def check_integrity(self) -> None:
        """Raise AssertionError unless every slot is free or has one entry that can be found by its tokens, owners point
        back, and what entries share they really have in common.
        """
        assert sorted([*self._free, *self._entries]) == list(range(len(self._free) + len(self._entries)))
        assert len(self._tree) == len(self._entries)
        for slot, entry in self._entries.items():
            tokens = entry.owner.tokens[: entry.decoded] if entry.owner else entry.kept
            assert entry.slot == slot
            assert entry.owner is None or entry.owner.slot == slot
            findable = entry.decoded
            if entry.owner is not None:
                findable = min(findable, entry.owner.prompt_count - entry.owner.discarded)
            assert dict(self._tree.matches(tokens))[slot] >= findable
            assert 0 <= entry.shared <= entry.decoded
            if entry.source is not None:
                source = entry.source
                assert self._entries[source.slot] is source
                assert entry.owner is None or source.owner is not None
                theirs = source.owner.tokens if source.owner else source.kept
                assert entry.shared <= source.decoded
                assert theirs[: entry.shared] == tokens[: entry.shared]

    def _matches(self, sequence: Sequence) -> list[tuple[int, int]]:
        """What entries have in common with a waiting sequence; looked up again only when entries have changed."""
        version, found = sequence.matches
        if version != self._tree.version:
            found = self._tree.matches(sequence.tokens)
            sequence.matches = (self._tree.version, found)
        return found

    def _best(self, sequence: Sequence) -> tuple[Entry | None, int]:
        best: Entry | None = None
        length = 0
        for slot, common in self._matches(sequence):
            if common <= length:
                break
            entry = self._entries[slot]
            count = min(common, entry.decoded, len(sequence.tokens) - 1)
            usable = self.can_roll_back or count == entry.decoded
            if usable and count > length:
                best, length = entry, count
        return best, length

    def _stored(self, sequence: Sequence) -> tuple[StoredPrefix | None, int]:
        if self._store is None:
            return None, 0
        return self._store.best(sequence.tokens[:-1], whole=not self.can_roll_back)

    def _reusable(self, sequence: Sequence) -> tuple[Entry | None, int, StoredPrefix | None]:
        """What a newcomer begins with, and how many tokens: of an entry, or of a state where that gains much."""
        source, count = self._best(sequence)
        stored, stored_count = self._stored(sequence)
        if stored is not None and stored_count >= count + WORTH_WAITING_TOKENS:
            return None, stored_count, stored
        return source, count, None

    def _restore(self, stored: StoredPrefix, sequence: Sequence, count: int) -> list[CacheOperation]:
        assert self._store is not None
        self._store.touch(stored)
        operations = self._make_room(None)
        slot = self._enter(sequence, count).slot
        operations.append(CacheOperation("restore", slot, count, stored=stored))
        return operations if count == len(stored.tokens) else [*operations, CacheOperation("truncate", slot, count)]

    def _covered(self, entry: Entry) -> bool:
        """Whether something else holds all that an idle entry does."""
        whole = len(entry.kept)
        if self._store is not None and self._store.covers(entry.kept):
            return True
        return any(
            slot != entry.slot and min(common, self._entries[slot].decoded) == whole
            for slot, common in self._tree.matches(entry.kept)
        )

    def _spill(self, entry: Entry) -> list[CacheOperation]:
        """Drop an idle entry, but let its state be saved where nothing else holds it."""
        saved = self._store is not None and len(entry.kept) >= WORTH_WAITING_TOKENS and not self._covered(entry)
        dropped = self._drop(entry)
        return [CacheOperation("save", entry.slot, len(entry.kept), tokens=entry.kept), *dropped] if saved else dropped

    def _comes_back(self, entry: Entry) -> bool:
        """Whether little is lost when an idle entry goes."""
        if len(entry.kept) < WORTH_WAITING_TOKENS or self._covered(entry):
            return True
        return self._store is not None and self._keeps(entry.slot, len(entry.kept))

    def _make_room(self, spare: Entry | None) -> list[CacheOperation]:
        """Free a slot by dropping an idle entry other than ``spare``, when none is free."""
        if self._free:
            return []
        idle = [entry for entry in self._idle() if entry is not spare]
        return self._spill(idle[0]) if idle else []

    def _trim(self, *, newest_stays: bool = True) -> list[CacheOperation]:
        """Drop the oldest idle sequences beyond the limit that can come back."""
        operations: list[CacheOperation] = []
        idle = self._idle()
        for entry in idle[:-1] if newest_stays else idle:
            if self.idle_tokens <= self._idle_limit_tokens:
                break
            if self._comes_back(entry):
                operations += self._spill(entry)
        return operations

    def _idle(self) -> list[Entry]:
        """Idle entries, the one used longest ago first."""
        idle = [entry for entry in self._entries.values() if entry.owner is None]
        return sorted(idle, key=lambda entry: entry.last_used)

    def _take_over(self, entry: Entry, sequence: Sequence, count: int) -> list[CacheOperation]:
        longer = count < len(entry.kept)
        cut(entry, count, self._entries.values())
        entry.kept = []
        self._own(entry, sequence, count)
        share(entry, entry.source, entry.shared)
        return [CacheOperation("truncate", entry.slot, count)] if longer else []

    def _enter(self, sequence: Sequence, count: int) -> Entry:
        """Give the sequence a free slot."""
        slot = self._free.pop()
        entry = self._entries[slot] = Entry(slot)
        self._own(entry, sequence, count)
        return entry

    def _own(self, entry: Entry, sequence: Sequence, count: int) -> None:
        sequence.slot, sequence.decoded = entry.slot, count
        entry.owner, entry.last_used = sequence, self._tick()
        self._tree.put(entry.slot, sequence.tokens)

    def _rest(self, sequence: Sequence) -> Entry:
        """Make the entry of a running sequence idle."""
        entry = self._entries[sequence.slot]
        become_idle(entry, self._entries.values())
        entry.owner, entry.kept = None, sequence.tokens[: sequence.decoded]
        entry.last_used = self._tick()
        sequence.slot = -1
        self._tree.put(entry.slot, entry.kept)
        return entry

    def _drop(self, entry: Entry) -> list[CacheOperation]:
        lose(entry, self._entries.values())
        del self._entries[entry.slot]
        self._tree.remove(entry.slot)
        self._free.append(entry.slot)
        return [CacheOperation("drop", entry.slot)]

    def _tick(self) -> int:
        self._clock += 1
        return self._clock
