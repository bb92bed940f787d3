"""Embed and rank: from a dialect's request to vectors or scores."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from lilliput.catalogue import InstalledModel
from lilliput.engine import Embed, Rank, Role, Vectors
from lilliput.errors import EngineDied
from lilliput.pool import Pool
from lilliput.services.deadlines import until


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """One vector for each input (text, or token ids taken as they are), cut to ``dimensions`` when they are given.

    It fails when it is not done ``deadline_s`` seconds after it came.
    """

    model: str
    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int | None = None
    caller: str = ""
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors of length 1 in the order of the inputs: each one row of little-endian float32."""

    model: str
    quantization: str | None
    rows: tuple[bytes, ...]
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class RankRequest:
    """How relevant each document is to the query; ``deadline_s`` as above."""

    model: str
    query: str
    documents: tuple[str, ...]
    caller: str = ""
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """Scores from 0 to 1 in the order of the documents."""

    model: str
    quantization: str | None
    scores: tuple[float, ...]
    prompt_tokens: int


_Asked = EmbeddingRequest | RankRequest
_Make = Callable[[int], Embed | Rank]


class ModelResolver(Protocol):
    """Finds installed models."""

    async def resolve(self, name: str) -> InstalledModel:
        """The installed model a name means; ModelNotFound."""
        ...


class Embedder:
    """Answers requests for vectors and scores with engines of that role."""

    def __init__(self, models: ModelResolver, pool: Pool) -> None:
        self._models = models
        self._pool = pool

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """The vectors of all inputs; raises ModelNotFound, InputTooLong, InvalidRequest, DoesNotFit, Busy and kin."""
        inputs = [one if isinstance(one, str) else list(one) for one in request.inputs]
        model = await self._models.resolve(request.model)
        answer = await self._ask(
            model, "embed", request, lambda number: Embed(number, inputs, request.dimensions or 0, request.caller)
        )
        size = len(answer.rows) // len(inputs)
        rows = tuple(answer.rows[start : start + size] for start in range(0, len(answer.rows), size))
        return Embeddings(model.name, model.quantization, rows, sum(answer.token_counts))

    async def rank(self, request: RankRequest) -> Ranking:
        """The scores of all documents; raises as ``embed``, and InvalidRequest for a model that is no reranker."""
        documents = list(request.documents)
        model = await self._models.resolve(request.model)
        answer = await self._ask(
            model, "rank", request, lambda number: Rank(number, request.query, documents, request.caller)
        )
        scores = struct.unpack(f"<{len(documents)}f", answer.rows)
        return Ranking(model.name, model.quantization, scores, sum(answer.token_counts))

    async def _ask(self, model: InstalledModel, role: Role, request: _Asked, make: _Make) -> Vectors:
        async with until(request.deadline_s):
            try:
                return await self._attempt(model, role, request.caller, make)
            except EngineDied:  # nobody has seen anything of the answer, so one more try is safe
                return await self._attempt(model, role, request.caller, make)

    async def _attempt(self, model: InstalledModel, role: Role, caller: str, make: _Make) -> Vectors:
        lease = await self._pool.lease(model, role=role, caller=caller)
        try:
            return await lease.engine.pooled(make)
        finally:
            lease.release()
