"""A second, smaller model of the same vocabulary that says ahead what sequences are likely to say."""

from __future__ import annotations

import logging
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from lilliput.engine.draft_choice import DEEPEST_DRAFT, Depth, DraftChoice
from lilliput.engine.drafts import Chances
from lilliput.engine.sequence import Sequence as Tokens
from lilliput.engine.speculation import WIDEST_STEP, Candidate, StepCosts
from lilliput.errors import EngineError
from lilliput.llama.batch import Batch
from lilliput.llama.context import Context, Decoded
from lilliput.llama.values import ContextSettings

log = logging.getLogger(__name__)

CAUGHT_UP_TOKENS = 8
"""A sequence that lacks no more than so many cells is drafted for, and gets them in the first pass of that."""

STOP_CHANCE = 0.2
"""Where all that it said so far comes with less than this chance, by its own probabilities, it says no more."""

TRIAL_TOKENS = 3
"""How far it drafts where it is to show whether it pays."""

_CLASS_BOUNDS = (0.35, 0.55, 0.75, 0.9, 0.97)
_PRIOR_CHANCES = (0.25, 0.4, 0.6, 0.75, 0.88, 0.95)
"""How often its likeliest token comes, by the class of its probability, before anything was seen."""

_PRIOR_CHANCE = 0.7
_PRIOR_WEIGHT = 4
"""The prior chance counts as much as so many tokens that were seen."""

_OWN_WEIGHT = 0.1
_SHARED_WEIGHT = 0.02


@dataclass(slots=True)
class Said:
    """What the draft model said from place ``start`` of a sequence on: tokens, the class of each one's probability, and
    the chance that it and all before it come.
    """

    start: int
    tokens: list[int] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)
    falling: list[float] = field(default_factory=list)

    def chances(self, limit: int) -> Iterator[float]:
        """As ``Drafts.chances``."""
        return iter(self.falling[:limit])

    def propose(self, count: int) -> tuple[int, ...]:
        """The first ``count`` tokens of it."""
        return tuple(self.tokens[:count])


@dataclass(slots=True)
class _Chance:
    """How often a drafted token comes: the mean of what was seen, and later of what was seen lately."""

    value: float = _PRIOR_CHANCE
    seen: int = 0

    def note(self, came: bool, least_weight: float) -> None:
        """One more token, of at least this weight."""
        self.seen += 1
        self.value += max(least_weight, 1 / (self.seen + _PRIOR_WEIGHT)) * (came - self.value)


@dataclass(slots=True)
class _Follower:
    """What the draft model has of the sequence in one slot.

    ``cells`` are the tokens in its cache, the first ``agreed`` of which were found to be the ``owner``'s. ``chance`` is
    how often what was said came, ``chances`` the same by class.
    """

    owner: tuple[int, int] = (-1, 0)
    cells: list[int] = field(default_factory=list)
    agreed: int = 0
    said: Said | None = None
    chance: _Chance = field(default_factory=_Chance)
    chances: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Turn:
    """A sequence that might be drafted for in this step, and the place of its candidate."""

    at: int
    sequence: Tokens
    follower: _Follower
    limit: int

    @property
    def lacking(self) -> int:
        """Tokens of the sequence that have no cells here; one at least."""
        return len(self.sequence.tokens) - len(self.follower.cells)


class DraftModel:
    """Follows the sequences of a runner with a context of its own, slot by slot, and drafts for them where that pays.

    What its cache holds of a slot is compared with the sequence's tokens whenever it is asked: so it needs not hear of
    refused drafts, cancelled requests, preemptions and contexts that slide. ``vocab_size`` and ``target``, its costs,
    are those of the model that verifies; ``gap_s`` is how long running streams may wait, ``clock`` gives seconds.
    """

    def __init__(
        self,
        context: Context,
        settings: ContextSettings,
        vocab_size: int,
        target: StepCosts,
        gap_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._context = context
        self._clock = clock
        self._target = target
        self._choice = DraftChoice(target, gap_s)
        self._followers = [_Follower() for _ in range(settings.max_sequences)]
        self._most_tokens = min(context.output_rows, WIDEST_STEP)
        self._batch = Batch(settings.batch_tokens)
        self._shared = Chances(_PRIOR_CHANCES)
        self._shared_chance = _Chance()
        self._failed = False
        # Vocabularies may differ in padding at their ends, of which neither may see what the other does not have.
        self._vocabulary = min(vocab_size, context.vocab_size)
        self._is_smaller = context.vocab_size < vocab_size

    def improve(self, candidates: list[Candidate], generating: Sequence[Tokens]) -> list[Candidate]:
        """The candidates; where it pays, with what the draft model says in place of what repetition tells.

        They are of some of the sequences that have a token each in the next pass.
        """
        if self._failed or not self._target.knows(len(generating)):
            return candidates
        try:
            return self._improve(candidates, generating)
        except EngineError as error:
            log.warning("the draft model fails, and is left alone from now on: %s", error)
            self._failed = True
            self._forget(self._followers)
            return candidates

    def check_integrity(self) -> None:
        """Raise AssertionError unless the library has the cells that are thought to be there."""
        for slot, follower in enumerate(self._followers):
            last = len(follower.cells) - 1
            found = self._context.positions(slot)
            assert found == (min(last, 0), last), f"draft slot {slot} has {found}, not {last + 1} cells"
            assert follower.agreed <= last + 1

    def _improve(self, candidates: list[Candidate], generating: Sequence[Tokens]) -> list[Candidate]:
        began = self._clock()
        choice = self._choice
        choice.earn(began)
        ends_at = began + choice.spare_s(len(generating))
        turns = self._turns(candidates, generating)
        best = self._best(turns, len(generating))
        trial = best is None
        if best is None:
            turns = [one for one in turns if choice.affords(one.lacking)][:1]
        else:
            saved_s = best.saved_s
            turns = [one for one in turns if choice.pays(one.lacking, one.sequence.generated, one.limit, saved_s)]
        turns = self._with_room(turns)
        if not turns:
            return candidates
        self._catch_up(turns, ends_at - began)
        ready = self._ready(turns)
        depth = TRIAL_TOKENS
        if best is not None:
            best = self._best(ready, len(generating))
            ready, depth = (ready[: best.sequences], best.tokens) if best is not None else ([], 0)
        self._draft(ready, depth, ends_at)
        if trial:
            choice.spend(self._clock() - began)
        improved = list(candidates)
        for one in ready:
            if one.follower.said is not None:
                improved[one.at] = replace(candidates[one.at], drafts=one.follower.said)
        return improved

    def _best(self, turns: Sequence[_Turn], generating: int) -> Depth | None:
        chances = [one.follower.chance.value for one in turns]
        return self._choice.best(chances, generating, self._most_tokens - generating)

    def _turns(self, candidates: Sequence[Candidate], generating: Sequence[Tokens]) -> list[_Turn]:
        """Those of whom repetition tells less than the draft model might, the likeliest to take a draft first."""
        turns = []
        sequences = {one.id: one for one in generating}
        for at, candidate in enumerate(candidates):
            sequence = sequences[candidate.id]
            follower = self._follow(sequence)
            if self._is_smaller and max(sequence.tokens[len(follower.cells) :]) >= self._vocabulary:
                continue
            if candidate.limit > 0 and next(candidate.drafts.chances(1), 0.0) < follower.chance.value:
                turns.append(_Turn(at, sequence, follower, candidate.limit))
        turns.sort(key=lambda one: -one.follower.chance.value)
        return turns

    def _follow(self, sequence: Tokens) -> _Follower:
        """The follower of a sequence, with no more in its cache than tokens of it, but for the last."""
        follower, tokens = self._followers[sequence.slot], sequence.tokens
        owner = (sequence.id, sequence.discarded)
        if follower.owner != owner:
            self._take_over(follower, sequence)
            follower.owner = owner
        self._judge(follower, tokens)
        agreed = min(_common(follower.cells, tokens, follower.agreed), len(tokens) - 1)
        self._cut(follower, sequence.slot, agreed)
        follower.agreed = agreed
        return follower

    def _take_over(self, follower: _Follower, sequence: Tokens) -> None:
        """Another sequence has the slot: it begins with what is known of all, and with the longest beginning that any
        slot has of it.
        """
        follower.said, follower.agreed = None, 0
        follower.chance, follower.chances = _Chance(self._shared_chance.value), list(self._shared.values)
        tokens = sequence.tokens
        common = [_common(one.cells, tokens, 0) for one in self._followers]
        source = max(range(len(common)), key=common.__getitem__)
        if common[source] > common[sequence.slot]:
            self._cut(follower, sequence.slot, 0)
            self._context.copy_prefix(source, sequence.slot, common[source])
            follower.cells = tokens[: common[source]]

    def _judge(self, follower: _Follower, tokens: Sequence[int]) -> None:
        """Learn from what has come of what was said, whether that was verified or not."""
        said, follower.said = follower.said, None
        if said is None:
            return
        for token, kind, truth in zip(said.tokens, said.kinds, tokens[said.start :], strict=False):
            came = token == truth
            follower.chances[kind] += _OWN_WEIGHT * (came - follower.chances[kind])
            follower.chance.note(came, _OWN_WEIGHT)
            self._shared.note(kind, came)
            self._shared_chance.note(came, _SHARED_WEIGHT)
            if not came:
                break

    def _with_room(self, turns: list[_Turn]) -> list[_Turn]:
        """Those whose tokens and drafts the cache can hold; what it has of others gives way.

        Cells that several slots share are counted for each: so there is surely room for what is let in.
        """

        def wanted() -> int:
            held = sum(len(one.cells) for one in self._followers)
            return held + sum(one.lacking + DEEPEST_DRAFT for one in turns)

        most = self._context.context_tokens
        if wanted() > most:
            present = {id(one.follower) for one in turns}
            self._forget([one for one in self._followers if id(one) not in present])
        turns = list(turns)
        while turns and wanted() > most:
            least = max(turns, key=lambda one: one.lacking)
            turns.remove(least)
            self._forget([least.follower])
        return turns

    def _ready(self, turns: list[_Turn]) -> list[_Turn]:
        """Those that lack little, as many as go into one pass."""
        ready, tokens = [], 0
        for one in turns:
            if one.lacking <= CAUGHT_UP_TOKENS and tokens + one.lacking <= self._batch.capacity:
                ready.append(one)
                tokens += one.lacking
        return ready

    def _catch_up(self, turns: list[_Turn], spare_s: float) -> None:
        """One pass over tokens that sequences lack, those that lack the least first, in no more than ``spare_s``."""
        left = min(self._choice.chunk_tokens(spare_s), self._batch.capacity)
        pieces: list[tuple[_Turn, list[int]]] = []
        self._batch.clear()
        for one in sorted(turns, key=lambda one: one.lacking):
            count = min(one.lacking - 1, left)
            if one.lacking > CAUGHT_UP_TOKENS and count:
                start = len(one.follower.cells)
                piece = one.sequence.tokens[start : start + count]
                self._batch.add(piece, start, one.sequence.slot, output_last=False)
                pieces.append((one, piece))
                left -= count
        if pieces:
            began = self._clock()
            if self._run(pieces):
                self._choice.note_chunk(len(self._batch), self._clock() - began)

    def _draft(self, turns: list[_Turn], depth: int, ends_at: float) -> None:
        """Say up to ``depth`` tokens for each, one pass for all of them at each place, no later than ``ends_at``."""
        pieces = [(one, one.sequence.tokens[len(one.follower.cells) :]) for one in turns]
        for one in turns:
            one.follower.said = Said(len(one.sequence.tokens))
        for _ in range(depth):
            began = self._clock()
            if not pieces or began >= ends_at:
                return
            self._batch.clear()
            rows = [
                self._batch.add(piece, len(one.follower.cells), one.sequence.slot, output_last=True)
                for one, piece in pieces
            ]
            if not self._run(pieces):
                return
            said = [(one, self._say(one, row)) for (one, _), row in zip(pieces, rows, strict=True)]
            pieces = [(one, [token]) for one, token in said if token is not None]
            self._choice.note_draft(len(self._batch), self._clock() - began)

    def _say(self, turn: _Turn, row: int) -> int | None:
        """Note the likeliest token; None where nothing more is to be said behind it."""
        follower = turn.follower
        said = follower.said
        assert said is not None
        logits = self._context.logits(row)[: self._vocabulary]
        token = int(logits.argmax())
        kind = bisect(_CLASS_BOUNDS, 1 / float(np.exp(logits - logits[token]).sum()))
        chance = follower.chances[kind] * (said.falling[-1] if said.falling else 1.0)
        if chance < STOP_CHANCE:
            return None
        said.tokens.append(token)
        said.kinds.append(kind)
        said.falling.append(chance)
        return token if len(said.tokens) < turn.limit else None

    def _run(self, pieces: list[tuple[_Turn, list[int]]]) -> bool:
        """Run the batch, which consists of these tokens; False where the library had no room, and all is forgotten."""
        if self._context.decode(self._batch) is not Decoded.DONE:
            self._forget(self._followers)
            return False
        for one, piece in pieces:
            one.follower.cells += piece
        return True

    def _cut(self, follower: _Follower, slot: int, count: int) -> None:
        """Keep the first ``count`` cells of a slot."""
        if count < len(follower.cells):
            self._context.truncate(slot, count)
            del follower.cells[count:]

    def _forget(self, followers: Sequence[_Follower]) -> None:
        """Give back all cells of some slots."""
        for slot, follower in enumerate(self._followers):
            if any(one is follower for one in followers):
                self._context.drop(slot)
                follower.cells, follower.agreed, follower.said = [], 0, None


def _common(cells: Sequence[int], tokens: Sequence[int], start: int) -> int:
    """How many tokens are the same from the beginning on, where the first ``start`` are known to be."""
    end = min(len(cells), len(tokens))
    if cells[start:end] == tokens[start:end]:
        return end
    return next(at for at in range(start, end) if cells[at] != tokens[at])
