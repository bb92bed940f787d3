"""What a sequence is likely to say next because its prompt or its answer said it before. Pure: no library, no clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

GRAM_TOKENS = 3
"""So many tokens in a row that stood there before make a match."""

COMPARED_PLACES = 8
"""Of the earlier places of a gram so many, the latest first, are compared for the longest match."""

COMPARED_TOKENS = 32
"""A match of so many tokens is as good as any longer one."""

INDEXED_AT_ONCE = 4096
"""Prompt tokens that are indexed with one new token: about 2 ms of Python."""

PRIOR_CHANCES = (0.3, 0.5, 0.6, 0.75, 0.85, 0.93)
"""How often the token after a match is the one that comes, by the class of its length, before anything was seen."""

LEAST_CHANCE = 0.05
"""Drafts go no further than where all their tokens come with this chance."""

_OWN_WEIGHT = 0.12
_SHARED_WEIGHT = 0.01
_MISSES_ALLOWED = 4
_KEY_BITS = 20
_KEY_MASK = (1 << _KEY_BITS * GRAM_TOKENS) - 1
_CLASSES = (0, 0, 0, 1, 2, 2, 3, 3, 3, *[4] * 8, *[5] * (COMPARED_TOKENS - 16))
"""Class of each match length: shorter than a gram, 3, 4 to 5, 6 to 8, 9 to 16, more."""


class GramIndex:
    """Where the last ``GRAM_TOKENS`` tokens of a growing list stood before; constant time and about 120 bytes a token.

    It reads the list it was made with, which must only grow. Places are counts: place p lies before ``tokens[p]``.
    """

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens = tokens
        self._latest: dict[int, int] = {}
        self._earlier = [0]
        self._key = 0

    @property
    def count(self) -> int:
        """How many tokens of the list are indexed."""
        return len(self._earlier) - 1

    def extend(self, end: int) -> None:
        """Index the tokens up to place ``end``."""
        key, latest, earlier = self._key, self._latest, self._earlier
        for place in range(len(earlier), end + 1):
            key = (key << _KEY_BITS | self._tokens[place - 1]) & _KEY_MASK
            earlier.append(latest.get(key, 0))
            latest[key] = place
        self._key = key

    def find(self) -> tuple[int, int]:
        """The earlier place with the longest match to the end of what is indexed, and the match's length.

        Of equally long matches the latest counts; (0, 0) when there is none of ``GRAM_TOKENS`` at least.
        """
        best, longest = 0, GRAM_TOKENS - 1
        place = self._earlier[-1]
        for _ in range(COMPARED_PLACES):
            if place == 0 or longest == COMPARED_TOKENS:
                break
            length = self._match(place)
            if length > longest:
                best, longest = place, length
            place = self._earlier[place]
        return (best, longest) if best else (0, 0)

    def _match(self, place: int) -> int:
        tokens, end = self._tokens, self.count
        length, most = 0, min(place, COMPARED_TOKENS)
        while length < most and tokens[place - 1 - length] == tokens[end - 1 - length]:
            length += 1
        return length


class Chances:
    """How often a proposed token came, by the class of the proposal (the length of its match), over all sequences of an
    engine.
    """

    def __init__(self, prior: Sequence[float] = PRIOR_CHANCES) -> None:
        self.values = list(prior)

    def note(self, kind: int, came: bool) -> None:
        """One more observation of a class."""
        self.values[kind] += _SHARED_WEIGHT * (came - self.values[kind])


class Drafts:
    """Follows a growing list of tokens and proposes how it goes on.

    While a match holds its place moves along; where it fails, the longest new match is taken, else the place skips one
    token, as after a replaced word. Every token that comes tells how good matches of that length are in this sequence,
    whether it was drafted or not: so a sequence that copies nothing stops drafting, and begins again when it copies.
    """

    def __init__(self, tokens: Sequence[int], shared: Chances) -> None:
        self._tokens = tokens
        self._index = GramIndex(tokens)
        self._shared = shared
        self._chances = list(shared.values)
        self._place = 0
        self._matched = 0
        self._misses = 0

    def follow(self) -> None:
        """Take note of one token that was appended; the first calls index the prompt too, in pieces."""
        count = len(self._tokens)
        index = self._index
        if index.count < count - 1:
            index.extend(min(count, index.count + INDEXED_AT_ONCE))
            if index.count < count:
                return
        else:
            if self._place:
                self._judge(self._tokens[-1])
            index.extend(count)
        if self._matched < GRAM_TOKENS:
            place, matched = index.find()
            if matched:
                self._place, self._matched, self._misses = place, matched, 0

    def chances(self, limit: int) -> Iterator[float]:
        """For each of up to ``limit`` proposed tokens the chance that it and all before it come; falling."""
        if not self._place:
            return
        chance, matched, values = 1.0, self._matched, self._chances
        for _ in range(limit):
            chance *= values[_CLASSES[min(matched, COMPARED_TOKENS)]]
            if chance < LEAST_CHANCE:
                return
            yield chance
            matched += 1

    def propose(self, count: int) -> tuple[int, ...]:
        """The ``count`` tokens that come next if the match goes on; a match with its own end repeats."""
        if not self._place:
            return ()
        draft = self._tokens[self._place : self._place + count]
        return tuple(draft[at % len(draft)] for at in range(count))

    def _judge(self, token: int) -> None:
        came = self._tokens[self._place] == token
        kind = _CLASSES[min(self._matched, COMPARED_TOKENS)]
        self._chances[kind] += _OWN_WEIGHT * (came - self._chances[kind])
        self._shared.note(kind, came)
        self._place += 1
        if came:
            self._matched += 1
            self._misses = 0
            return
        self._matched = 0
        self._misses += 1
        if self._misses > _MISSES_ALLOWED:
            self._place = 0
