"""The loop's body of a worker that embeds: pack inputs of all requests, run, tell their vectors.

Inputs of several requests go through one forward pass together; callers and their requests take turns, so that a long
list does not hold up a short one. An input goes through whole where its tokens see each other; where attention is
causal a long one goes through in chunks, whose means add up and whose last is the last.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lilliput.engine.fairness import in_turns
from lilliput.engine.wire import Embedded, Failed, Pooled
from lilliput.errors import EngineError
from lilliput.llama.context import Decoded
from lilliput.llama.embeddings import PooledBatch, PooledContext, Vector

PACKED_TOKENS = 512
"""Inputs are packed up to so many tokens: beyond, attention over all the others costs more than a pass saves."""


@dataclass(slots=True, eq=False)
class Job:
    """One request: token ids of each input, the width its vectors are cut to (0: not), who asked, what has begun and
    ended.
    """

    id: int
    inputs: Sequence[Sequence[int]]
    dimensions: int = 0
    caller: str = ""
    begun: int = 0
    ended: int = 0
    ready: list[bytes] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Piece:
    """An input on its way: ``decoded`` of its tokens are through, ``count`` more are in the pass of now."""

    job: Job
    tokens: Sequence[int]
    slot: int = 0
    decoded: int = 0
    count: int = 0
    vector: Vector | None = None

    @property
    def whole(self) -> bool:
        """Whether the pass of now is its last."""
        return self.decoded + self.count == len(self.tokens)


class Embedder:
    """Runs inputs through a context that pools, one forward pass a ``step``."""

    def __init__(self, context: PooledContext, batch_tokens: int, max_sequences: int) -> None:
        self._context = context
        self._batch_tokens = batch_tokens
        self._max_sequences = max_sequences
        self._batch = PooledBatch(batch_tokens)
        self._jobs: deque[Job] = deque()
        self._partial: _Piece | None = None
        self._events: list[Embedded | Failed] = []
        self._in_flight: frozenset[int] = frozenset()

    @property
    def has_work(self) -> bool:
        """Whether a step would do something."""
        return bool(self._jobs)

    @property
    def urgent(self) -> bool:
        """Whether there is news: vectors are always waited for."""
        return bool(self._events)

    def submit(self, job: Job) -> None:
        """Queue a request."""
        self._jobs.append(job)

    def refuse(self, event: Failed) -> None:
        """Tell that a request could not be read."""
        self._events.append(event)

    def cancel(self, request_id: int) -> None:
        """Forget a request; unknown ids (already ended) are ignored."""
        self._jobs = deque(job for job in self._jobs if job.id != request_id)
        if self._partial is not None and self._partial.job.id == request_id:
            self._context.drop(self._partial.slot)
            self._partial = None

    def drop_prefixes(self) -> None:
        """There is nothing to forget: each input is computed for itself."""

    def computes_prompt_of(self, request_id: int) -> bool:
        """Whether the forward pass that runs now is for this request alone (asked by another thread)."""
        return self._in_flight == {request_id}

    def news(self) -> Pooled:
        """What happened since the last call, for the wire."""
        events, self._events = self._events, []
        waiting = sum(len(job.inputs) - job.begun for job in self._jobs)
        return Pooled(events, sum(job.begun - job.ended for job in self._jobs), waiting)

    def step(self) -> None:
        """Run one forward pass over as many inputs as it takes."""
        pieces = self._pack()
        self._in_flight = frozenset(piece.job.id for piece in pieces)
        try:
            outcome = self._context.decode(self._fill(pieces))
        except EngineError as error:
            self._fail(pieces, error)
            return
        finally:
            self._in_flight = frozenset()
        if outcome is Decoded.DONE:
            self._collect(pieces)
        elif outcome is Decoded.ABORTED:
            self._start_over(pieces)
        else:
            self._fail(pieces, EngineError("the KV cache has no room for the inputs", hint="send shorter inputs"))

    def _pack(self) -> list[_Piece]:
        """The inputs of the next pass: the one that is under way, then one of each request in turn, callers in turn."""
        pieces: list[_Piece] = []
        used = cells = 0
        if self._partial is not None:
            piece, self._partial = self._partial, None
            piece.count = used = min(len(piece.tokens) - piece.decoded, self._batch_tokens)
            cells = len(piece.tokens)
            pieces.append(piece)
        waiting = (job for job in self._jobs if job.begun < len(job.inputs))
        turns = deque(in_turns(waiting, lambda job: job.caller))
        limit = min(PACKED_TOKENS, self._batch_tokens)
        while turns and len(pieces) < self._max_sequences:
            job = turns.popleft()
            tokens = job.inputs[job.begun]
            count = len(tokens) if pieces else min(len(tokens), self._batch_tokens)
            if pieces and (used + count > limit or cells + count > self._context.context_tokens):
                continue
            pieces.append(_Piece(job, tokens, count=count))
            job.begun += 1
            used, cells = used + count, cells + len(tokens)
            if job.begun < len(job.inputs):
                turns.append(job)
        served = {piece.job for piece in pieces}  # they are last in the next turn
        self._jobs = deque(sorted(self._jobs, key=lambda job: job in served))
        return pieces

    def _fill(self, pieces: Sequence[_Piece]) -> PooledBatch:
        self._batch.clear()
        taken = {piece.slot for piece in pieces if piece.decoded}
        free = iter(slot for slot in range(self._max_sequences) if slot not in taken)
        for piece in pieces:
            if not piece.decoded:
                piece.slot = next(free)
            self._batch.add(piece.tokens[piece.decoded : piece.decoded + piece.count], piece.decoded, piece.slot)
        return self._batch

    def _collect(self, pieces: Sequence[_Piece]) -> None:
        for piece in pieces:
            if piece.job not in self._jobs:  # another of its inputs has failed
                self._context.drop(piece.slot)
                continue
            try:
                self._take(piece)
            except EngineError as error:
                self._fail([piece], error)
        for job in dict.fromkeys(piece.job for piece in pieces if piece.job.ready):
            first = job.ended
            job.ended += len(job.ready)
            counts = [len(tokens) for tokens in job.inputs[first : job.ended]]
            last = job.ended == len(job.inputs)
            self._events.append(Embedded(job.id, b"".join(job.ready), counts, last))
            job.ready = []
            if last:
                self._jobs.remove(job)

    def _take(self, piece: _Piece) -> None:
        """Read a piece's vector; a piece that is not at its end goes on in the next pass."""
        piece.vector = self._joined(piece)
        if piece.whole:
            self._context.drop(piece.slot)
            piece.job.ready.append(self._finished(piece.vector, piece.job.dimensions))
        else:
            piece.decoded += piece.count
            self._partial = piece

    def _joined(self, piece: _Piece) -> Vector:
        """The vector of all of a piece's tokens so far: their mean, or what the pooling takes."""
        new, before = self._context.vector(piece.slot), piece.vector
        if before is None:
            return new
        if self._context.pooling == "mean":
            share = np.float32(piece.count / (piece.decoded + piece.count))
            return before + (new - before) * share
        return before if self._context.pooling == "cls" else new

    def _finished(self, vector: Vector, dimensions: int) -> bytes:
        """The bytes that are told, little-endian float32: a score from 0 to 1, or a vector of length 1."""
        if not np.isfinite(vector).all():
            raise EngineError("the model's vector has values that are no finite numbers")
        if self._context.pooling == "rank":
            return np.asarray(_score(vector), "<f4").tobytes()
        vector = vector[:dimensions] if dimensions else vector
        length = float(np.linalg.norm(vector))
        return np.asarray(vector / length if length > 0 else vector, "<f4").tobytes()

    def _start_over(self, pieces: Sequence[_Piece]) -> None:
        """An aborted pass may have filled cells: what was in it begins anew, unless its request is cancelled."""
        for piece in pieces:
            self._context.drop(piece.slot)
            piece.job.begun -= 1

    def _fail(self, pieces: Sequence[_Piece], error: EngineError) -> None:
        """End the requests of these pieces; a request that has failed already is not told again."""
        for piece in pieces:
            self._context.drop(piece.slot)
            piece.job.ready = []
        for job in dict.fromkeys(piece.job for piece in pieces):
            if job in self._jobs:
                self._jobs.remove(job)
                self._events.append(Failed(job.id, error.code, error.message, error.hint))


def _score(outputs: Vector) -> float:
    """The relevance from a classifier's outputs: one is a logit; of several the first is a probability already."""
    first = float(outputs[0])
    return 0.5 + 0.5 * math.tanh(first / 2) if len(outputs) == 1 else first
