"""Which tokens go into the next forward pass. Pure: no clock, no I/O, no library."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter

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

    A rank never changes and every sequence that comes much later has a higher one, so everybody's turn comes.
    """

    def __init__(self, limits: SchedulerLimits, cache: PrefixCache) -> None:
        self._limits = limits
        self._cache = cache
        self.pace = Pace(limits.gap_s, limits.batch_tokens)
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []

    @property
    def has_work(self) -> bool:
        """Whether a step would do something."""
        return bool(self.running or self.waiting)

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence behind all others of its rank."""
        insort(self.waiting, sequence, key=_rank)

    def remove(self, sequence: Sequence, *, keep: bool = True) -> list[CacheOperation]:
        """Take a sequence out, wherever it is; ``keep`` leaves its cells for reuse."""
        if sequence.slot < 0:
            self.waiting.remove(sequence)
            return []
        self.running.remove(sequence)
        return self._cache.release(sequence, keep=keep)

    def admit(self) -> list[CacheOperation]:
        """Let waiting sequences in while there are slots and cells; those that wait for a prefix are passed over."""
        operations: list[CacheOperation] = []
        for sequence in list(self.waiting):
            if len(self.running) >= self._limits.slots or not self._has_cells(sequence):
                break
            if self._cache.should_wait(sequence):
                continue
            self.waiting.remove(sequence)
            operations += [*self._cache.acquire(sequence), *self._cache.shed()]
            insort(self.running, sequence, key=_rank)
        return operations

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
                count = min(sequence.remaining, budget)
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
        youngest.decoded = 0
        self.waiting.insert(bisect_left(self.waiting, youngest.rank, key=_rank), youngest)
        return operations

    def _has_cells(self, newcomer: Sequence) -> bool:
        """Whether the cells of all running sequences and the newcomer's fit; idle ones give way when needed."""
        held = sum(len(one.tokens) - one.shared + HEADROOM_TOKENS for one in self.running)
        return not self.running or held + len(newcomer.tokens) < self._limits.context_tokens
