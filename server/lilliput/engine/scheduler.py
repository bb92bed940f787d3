"""Which tokens go into the next forward pass. Pure: no clock, no I/O, no library."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter

from lilliput.engine.fairness import fair_rank
from lilliput.engine.pace import Pace
from lilliput.engine.prefix_cache import CacheOperation, PrefixCache
from lilliput.engine.sequence import Sequence

HEADROOM_TOKENS = 32
"""Cells left to each running sequence when another is let in, so that it is not sent back at once."""

_rank = attrgetter("rank")


@dataclass(frozen=True, slots=True)
class SchedulerLimits:
    """Bounds of a step, in tokens, and of how many sequences run together.

    ``gap_s`` bounds the pause that a long prompt makes in running streams (see ``Pace``). Alone, prompts may fill
    ``batch_tokens``.
    """

    slots: int
    context_tokens: int
    batch_tokens: int
    gap_s: float = 0.1


Apply = Callable[[list[CacheOperation]], None]
"""Does to the KV cache what was decided."""

Proposals = Callable[[list[Sequence]], Mapping[int, tuple[int, ...]]]
"""Draft tokens by sequence id, for sequences that all generate."""


@dataclass(frozen=True, slots=True)
class Slice:
    """``count`` tokens of a sequence from ``start`` on; ``completes`` when the next token can be drawn after it.

    ``drafts`` go along behind the last token, to see whether they are what will be drawn.
    """

    sequence: Sequence
    start: int
    count: int
    drafts: tuple[int, ...] = ()

    @property
    def completes(self) -> bool:
        """Whether nothing of the sequence remains to be decoded after this slice."""
        return self.start + self.count == len(self.sequence.tokens)


class Scheduler:
    """Keeps who waits and who runs, both in the order of their ranks, and of arrival where those are equal.

    A rank never changes, and every sequence that comes much later has a higher one than the next of each caller, so
    everybody's turn comes.
    """

    def __init__(self, limits: SchedulerLimits, cache: PrefixCache, pace: Pace) -> None:
        self._limits = limits
        self._cache = cache
        self.pace = pace
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []

    @property
    def has_work(self) -> bool:
        """Whether a step would do something."""
        return bool(self.running or self.waiting)

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence behind all others of its rank."""
        insort(self.waiting, sequence, key=_rank)

    def rank_of(self, sequence: Sequence, rank: float) -> float:
        """The rank of a sequence that comes now and would have this one alone: callers take turns."""
        line = [one for one in self.waiting if one.urgent == sequence.urgent]
        return fair_rank(line, sequence.caller, rank)

    def position_of(self, sequence: Sequence) -> int:
        """Which number it has among those that wait for a slot, 1 the next; 0 when one is free for it."""
        return max(0, self.waiting.index(sequence) + 1 + len(self.running) - self._limits.slots)

    def remove(self, sequence: Sequence, *, keep: bool = True) -> list[CacheOperation]:
        """Take a sequence out, wherever it is; ``keep`` leaves its cells for reuse."""
        if sequence.slot < 0:
            self.waiting.remove(sequence)
            return []
        self.running.remove(sequence)
        return self._cache.release(sequence, keep=keep)

    def admit(self, apply: Apply) -> list[Sequence]:
        """Let waiting sequences in while there are slots and cells, and return them; those that wait for a prefix are
        passed over.

        ``apply`` does what each entry needs before the next one is looked at, for that may build on it. A slot or cells
        that are missing for an urgent sequence are taken from those that are not urgent and come after it.
        """
        admitted: list[Sequence] = []
        for sequence in list(self.waiting):
            if len(self.running) >= self._limits.slots and not self._gives_way(sequence):
                break
            leader = self._cache.leader_of(sequence)
            if leader is not None:
                leader.stops_short = not self._cache.can_roll_back
                continue
            while not self._has_place(sequence) and self._gives_way(sequence):
                apply(self._give_way())
            if not self._has_place(sequence):
                break
            self.waiting.remove(sequence)
            operations = self._cache.acquire(sequence)
            insort(self.running, sequence, key=_rank)
            apply(operations)
            apply(self._cache.shed())
            admitted.append(sequence)
        return admitted

    def plan(self, propose: Proposals | None = None) -> list[Slice]:
        """One token for every generating sequence, then prompt tokens in order of rank.

        ``propose`` is asked for drafts when no prompt wants a part of the step.
        """
        generating = [one for one in self.running if one.remaining == 1]
        drafts = propose(generating) if propose is not None and len(generating) == len(self.running) else {}
        slices = [Slice(one, one.decoded, 1, drafts.get(one.id, ())) for one in generating]
        budget = self._limits.batch_tokens - len(slices)
        if slices:
            budget = min(budget, self.pace.chunk_tokens(len(slices)))
        for sequence in self.running:
            if budget <= 0:
                break
            if sequence.remaining > 1:
                count = min(sequence.remaining - sequence.stops_short, budget)
                slices.append(Slice(sequence, sequence.decoded, count))
                budget -= count
        return slices

    def preempt(self) -> list[CacheOperation]:
        """Send the running sequence of the highest rank, the youngest of the least urgent, back to wait.

        Its state may be saved before its cells go; else it is recomputed. Empty when only one runs.
        """
        if len(self.running) < 2:
            return []
        youngest = self.running.pop()
        operations = self._cache.set_aside(youngest)
        self._wait_again(youngest)
        return operations

    def slide(self, sequence: Sequence, keep: int, count: int) -> list[CacheOperation]:
        """Discard ``count`` tokens of a running sequence behind its first ``keep``: it waits for its turn to have those
        after them computed at their new places, as if they had come so. Cells that it shares are left alone.
        """
        self.running.remove(sequence)
        operations = self._cache.cut_back(sequence, keep)
        sequence.discard(keep, count)
        self._wait_again(sequence)
        return operations

    def _wait_again(self, sequence: Sequence) -> None:
        sequence.decoded, sequence.stops_short = 0, False
        self.waiting.insert(bisect_left(self.waiting, sequence.rank, key=_rank), sequence)

    def _gives_way(self, newcomer: Sequence) -> bool:
        """Whether a running sequence makes place for a newcomer."""
        if not newcomer.urgent or not self.running:
            return False
        last = self.running[-1]
        return not last.urgent and last.rank > newcomer.rank

    def _give_way(self) -> list[CacheOperation]:
        """Take its slot from the running sequence of the highest rank; its cells stay as long as there is room."""
        last = self.running.pop()
        operations = self._cache.release(last, keep=True)
        self._wait_again(last)
        return operations

    def _has_place(self, newcomer: Sequence) -> bool:
        """Whether a slot is free and the cells of all running sequences and the newcomer's fit; idle ones give way."""
        if not self.running:
            return True
        if len(self.running) >= self._limits.slots:
            return False
        held = sum(self._cache.cells_of(one) + HEADROOM_TOKENS for one in self.running)
        left = self._limits.context_tokens - held
        return len(newcomer.tokens) < left or (left > 0 and self._cache.cells_for(newcomer) < left)
