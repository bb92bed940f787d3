"""What a model is for, as its header says, and which requests that rules out."""

from __future__ import annotations

from lilliput.engine import Role
from lilliput.errors import InvalidRequest
from lilliput.fit import is_encoder
from lilliput.gguf import Header

_EMBEDDING_POOLINGS = (1, 2, 3)
_RANK_POOLING = 4
"""``enum llama_pooling_type``: mean, cls and last give vectors, rank a score."""


def role_of(header: Header) -> Role:
    """What the model was made for."""
    pooling = _pooling(header)
    if pooling == _RANK_POOLING:
        return "rank"
    return "embed" if is_encoder(header) or pooling in _EMBEDDING_POOLINGS else "generate"


def check_role(name: str, header: Header, role: Role) -> None:
    """Raise InvalidRequest when the model cannot do what is asked of it. Models that generate can embed, too."""
    own = role_of(header)
    if role == "rank" and own != "rank":
        raise InvalidRequest(
            f"{name} is no reranker: its file names no pooling of the kind 'rank'",
            hint="name a reranker, or compare vectors of /v1/embeddings",
            param="model",
        )
    if role == "embed" and own == "rank":
        raise InvalidRequest(f"{name} is a reranker and has no embeddings", hint="use /v1/rerank", param="model")
    if role == "generate" and (own == "rank" or is_encoder(header)):
        kind, route = ("a reranker", "/v1/rerank") if own == "rank" else ("an embedding model", "/v1/embeddings")
        raise InvalidRequest(f"{name} is {kind} and cannot write text", hint=f"use {route}", param="model")


def _pooling(header: Header) -> object:
    return header.metadata.get(f"{header.architecture}.pooling_type")
