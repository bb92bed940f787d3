"""Which KV sequences exist, what they hold, and how a newcomer can reuse them. Pure: it decides, the runner does."""

from __future__ import annotations

from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field
from typing import Literal

from lilliput.engine.prefix_store import PrefixStore, StoredPrefix, common_prefix
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


@dataclass(slots=True, eq=False)
class Entry:
    """One KV sequence: owned by a running request, or idle and kept for its prefix."""

    slot: int
    owner: Sequence | None = None
    kept: list[int] = field(default_factory=list)
    last_used: int = 0

    @property
    def tokens(self) -> list[int]:
        """The tokens it is about: of a running request also those not decoded yet."""
        return self.owner.tokens if self.owner else self.kept

    @property
    def decoded(self) -> int:
        """How many of them have cells."""
        return self.owner.decoded if self.owner else len(self.kept)


class PrefixCache:
    """Owner of the KV sequence ids 0 … ``max_sequences`` - 1.

    ``can_roll_back`` False (recurrent layers, small sliding-window caches) allows reuse only of a whole idle sequence.
    ``idle_limit_tokens`` bounds what is kept for reuse, because attention passes over idle cells too (measured on two
    CPU cores with a 135M model: about 8 % of a token's time for 1,500 of them); the newest idle sequence is kept
    whatever its length, while nothing else runs or where there is no store. What has to leave goes to the ``store``, if
    there is one, and comes back when it is wanted.
    """

    def __init__(
        self, max_sequences: int, *, can_roll_back: bool, idle_limit_tokens: int, store: PrefixStore | None = None
    ) -> None:
        self._idle_limit_tokens = idle_limit_tokens
        self._store = store
        self._entries: dict[int, Entry] = {}
        self._free = list(range(max_sequences - 1, -1, -1))
        self._can_roll_back = can_roll_back
        self._clock = 0

    @property
    def idle_tokens(self) -> int:
        """Tokens kept for reuse by no running request; cells shared between entries count in each."""
        return sum(len(entry.kept) for entry in self._entries.values() if entry.owner is None)

    def should_wait(self, sequence: Sequence) -> bool:
        """Whether a running request is about to have a much longer prefix of this one than exists now."""
        if not self._can_roll_back:
            return False
        wanted = sequence.tokens[:-1]
        prefilling = [
            entry.tokens for entry in self._entries.values() if entry.owner is not None and entry.owner.remaining > 1
        ]
        coming = max((common_prefix(wanted, tokens) for tokens in prefilling), default=0)
        if coming < WORTH_WAITING_TOKENS:
            return False
        there = max(self._best(wanted)[1], self._stored(wanted)[1])
        return coming - there >= WORTH_WAITING_TOKENS

    def acquire(self, sequence: Sequence) -> list[CacheOperation]:
        """Give the sequence a slot and the longest prefix that can be reused (at least one token stays to decode)."""
        wanted = sequence.tokens[:-1]
        source, count = self._best(wanted)
        stored, stored_count = self._stored(wanted)
        if stored is not None and stored_count >= count + WORTH_WAITING_TOKENS:
            return self._restore(stored, sequence, stored_count)
        if source is not None and source.owner is None and count == len(source.kept):
            return self._take_over(source, sequence, count)
        if source is None or count == 0:
            operations = self._make_room(None)
            self._own(self._free.pop(), sequence, 0)
            return operations
        operations = self._make_room(source)
        if not self._free:
            return [*operations, *self._take_over(source, sequence, count)]
        slot = self._free.pop()
        self._own(slot, sequence, count)
        sequence.shared = count if source.owner is not None else 0
        source.last_used = self._tick()
        return [*operations, CacheOperation("copy", slot, count, source.slot)]

    def release(self, sequence: Sequence, *, keep: bool) -> list[CacheOperation]:
        """Take the slot from a sequence; ``keep`` leaves its decoded tokens for others to reuse."""
        entry = self._entries[sequence.slot]
        sequence.slot, sequence.shared = -1, 0
        entry.owner = None
        entry.kept = sequence.tokens[: sequence.decoded]
        entry.last_used = self._tick()
        return self._trim() if keep and entry.kept else self._drop(entry)

    def shed(self) -> list[CacheOperation]:
        """Once a newcomer has taken what it could use: let even the newest idle sequence go, if it can come back."""
        return [] if self._store is None else self._trim(newest_stays=False)

    def set_aside(self, sequence: Sequence) -> list[CacheOperation]:
        """Take slot and cells from a sequence that will come back for them."""
        entry = self._entries[sequence.slot]
        sequence.slot, sequence.shared = -1, 0
        entry.owner, entry.kept = None, sequence.tokens[: sequence.decoded]
        return self._spill(entry)

    def evict(self) -> list[CacheOperation]:
        """Drop the idle sequence that was used longest ago; empty when there is none."""
        idle = self._idle()
        return self._spill(idle[0]) if idle else []

    def check_integrity(self) -> None:
        """Raise AssertionError unless every slot is either free or has one entry, and owners point back."""
        assert sorted([*self._free, *self._entries]) == list(range(len(self._free) + len(self._entries)))
        for slot, entry in self._entries.items():
            assert entry.slot == slot
            assert entry.owner is None or entry.owner.slot == slot

    def _best(self, wanted: Tokens[int]) -> tuple[Entry | None, int]:
        best: Entry | None = None
        length = 0
        for entry in self._entries.values():
            count = common_prefix(wanted, entry.tokens[: entry.decoded] if entry.owner else entry.kept)
            usable = self._can_roll_back or (entry.owner is None and count == len(entry.kept))
            if usable and count > length:
                best, length = entry, count
        return best, length

    def _stored(self, wanted: Tokens[int]) -> tuple[StoredPrefix | None, int]:
        return (None, 0) if self._store is None else self._store.best(wanted, whole=not self._can_roll_back)

    def _restore(self, stored: StoredPrefix, sequence: Sequence, count: int) -> list[CacheOperation]:
        assert self._store is not None
        self._store.touch(stored)
        operations = self._make_room(None)
        slot = self._free.pop()
        self._own(slot, sequence, count)
        operations.append(CacheOperation("restore", slot, count, stored=stored))
        return operations if count == len(stored.tokens) else [*operations, CacheOperation("truncate", slot, count)]

    def _spill(self, entry: Entry) -> list[CacheOperation]:
        """Drop an idle entry, but let its state be saved where nothing else holds it."""
        slot, kept = entry.slot, entry.kept
        dropped = self._drop(entry)
        if self._store is None or len(kept) < WORTH_WAITING_TOKENS or self._store.covers(kept):
            return dropped
        if any(common_prefix(kept, one.tokens[: one.decoded]) == len(kept) for one in self._entries.values()):
            return dropped
        return [CacheOperation("save", slot, len(kept), tokens=kept), *dropped]

    def _make_room(self, spare: Entry | None) -> list[CacheOperation]:
        """Free a slot by dropping an idle entry other than ``spare``, when none is free."""
        if self._free:
            return []
        idle = [entry for entry in self._idle() if entry is not spare]
        return self._spill(idle[0]) if idle else []

    def _trim(self, *, newest_stays: bool = True) -> list[CacheOperation]:
        """Drop the oldest idle sequences beyond the limit."""
        operations: list[CacheOperation] = []
        idle = self._idle()
        for entry in idle[:-1] if newest_stays else idle:
            if self.idle_tokens <= self._idle_limit_tokens:
                break
            operations += self._spill(entry)
        return operations

    def _idle(self) -> list[Entry]:
        """Idle entries, the one used longest ago first."""
        idle = [entry for entry in self._entries.values() if entry.owner is None]
        return sorted(idle, key=lambda entry: entry.last_used)

    def _take_over(self, entry: Entry, sequence: Sequence, count: int) -> list[CacheOperation]:
        longer = count < len(entry.kept)
        self._own(entry.slot, sequence, count)
        return [CacheOperation("truncate", entry.slot, count)] if longer else []

    def _own(self, slot: int, sequence: Sequence, count: int) -> None:
        sequence.slot, sequence.decoded, sequence.shared = slot, count, 0
        self._entries[slot] = Entry(slot, sequence, [], self._tick())

    def _drop(self, entry: Entry) -> list[CacheOperation]:
        del self._entries[entry.slot]
        self._free.append(entry.slot)
        return [CacheOperation("drop", entry.slot)]

    def _tick(self) -> int:
        self._clock += 1
        return self._clock
