"""Does to the KV cache what was decided about its prefixes, and keeps states of those that leave it."""

from __future__ import annotations

from collections.abc import Iterable

from lilliput.engine.counters import Counters
from lilliput.engine.pace import Pace
from lilliput.engine.prefix_cache import CacheOperation, PrefixCache
from lilliput.engine.prefix_store import PrefixStore
from lilliput.engine.sequence import Sequence
from lilliput.llama.context import Context

COPY_BYTES_S = 1e9
"""A careful guess of how fast states are copied out of the KV cache and back."""


class KvCache:
    """The cells of a context; ``decided`` is what they should hold.

    ``pace`` tells what it costs to compute a prefix again, and how long running streams may have to wait. States saved
    and restored are counted in ``totals``.
    """

    def __init__(
        self,
        context: Context,
        max_sequences: int,
        idle_limit_tokens: int,
        store: PrefixStore | None,
        pace: Pace,
        totals: Counters,
    ) -> None:
        self._context = context
        self._max_sequences = max_sequences
        self._can_roll_back = context.model.can_roll_back
        self._store = store
        self._pace = pace
        self._totals = totals
        totals.store_bytes = 0 if store is None else store.used_bytes  # a store may begin with what a disk kept
        self.decided = PrefixCache(
            max_sequences,
            can_roll_back=self._can_roll_back,
            idle_limit_tokens=idle_limit_tokens,
            store=store,
            keeps=self._keeps,
        )

    def apply(self, operations: Iterable[CacheOperation]) -> None:
        """Do what was decided, in its order."""
        for operation in operations:
            if operation.kind == "copy":
                self._context.copy_prefix(operation.source, operation.slot, operation.count)
            elif operation.kind == "truncate":
                self._context.truncate(operation.slot, operation.count)
            elif operation.kind == "save":
                self._save(operation)
            elif operation.kind == "restore":
                self._restore(operation)
            else:
                self._context.drop(operation.slot)

    def roll_back(self, sequence: Sequence, count: int) -> None:
        """Only the first ``count`` cells of a sequence hold; where the model cannot forget the others, none does."""
        # Where a window slides, an aborted pass may have overwritten cells of tokens before its own.
        if not (self._can_roll_back and self._context.truncate(sequence.slot, count)):
            self._context.drop(sequence.slot)
            self.decided.lost(sequence.slot)

    def drop_prefixes(self) -> None:
        """Forget idle prefixes and saved states; what a disk keeps stays there.

        The cells of idle ones are no memory by themselves, but attention does not pass over them any more: what the
        system has swapped out of them may stay where it is.
        """
        self.apply(self.decided.drop_idle())
        if self._store is not None:
            self._store.clear()
            self._totals.store_bytes = 0

    def check_integrity(self) -> None:
        """Raise AssertionError unless the library has the cells that should be there, and no others."""
        self.decided.check_integrity()
        held = self.decided.holdings()
        for slot in range(self._max_sequences):
            first, last = self._context.positions(slot)
            assert last == held.get(slot, 0) - 1, f"slot {slot} ends at {last}, not as in {held}"
            assert first == min(last, 0) or not self._can_roll_back, f"slot {slot} begins at {first}"

    def _keeps(self, slot: int, count: int) -> bool:
        """Whether a state would be saved, and without too long a pause of running streams."""
        size = self._context.state_bytes(slot)
        return size / COPY_BYTES_S <= self._pace.gap_s and self._is_worth_saving(size, count)

    def _is_worth_saving(self, size_bytes: int, count: int) -> bool:
        """Whether a state may be stored, and copied there and back in less time than it takes to compute it again."""
        again_s = count * (self._pace.prompt_token_s or 0.0)
        return self._store is not None and self._store.takes(size_bytes) and 2 * size_bytes / COPY_BYTES_S < again_s

    def _save(self, operation: CacheOperation) -> None:
        assert self._store is not None
        if self._is_worth_saving(self._context.state_bytes(operation.slot), operation.count):
            self._store.put(operation.tokens, self._context.save(operation.slot))
            self._totals.saved_states += 1
            self._totals.store_bytes = self._store.used_bytes

    def _restore(self, operation: CacheOperation) -> None:
        """Fill a slot; idle prefixes make room, and what still finds none is computed again."""
        assert operation.stored is not None
        while not self._context.restore(operation.slot, operation.stored.state):
            room = self.decided.evict()
            if not room:
                self._context.drop(operation.slot)
                self.decided.lost(operation.slot)
                return
            self.apply(room)
        self._totals.restored_states += 1
