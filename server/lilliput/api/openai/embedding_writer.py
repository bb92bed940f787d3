"""The answers to requests for embeddings and rankings."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from typing import Any

from lilliput.api.errors import encode
from lilliput.services.embed import Embeddings, Ranking


def embeddings_json(answer: Embeddings, *, as_base64: bool) -> bytes:
    """OpenAI's list of embeddings. Takes milliseconds where there are many: call it in a thread."""
    data = [
        {"object": "embedding", "index": index, "embedding": _base64(row) if as_base64 else _numbers(row)}
        for index, row in enumerate(answer.rows)
    ]
    return encode({"object": "list", "data": data, "model": answer.model, "usage": _usage(answer.prompt_tokens)})


def ranking_json(answer: Ranking, top_n: int | None, documents: Sequence[str] | None) -> bytes:
    """Jina's and Cohere's list of results, the most relevant first; ``documents`` are repeated when given."""
    order = sorted(range(len(answer.scores)), key=lambda index: (-answer.scores[index], index))
    results: list[dict[str, Any]] = []
    for index in order[:top_n]:
        result: dict[str, Any] = {"index": index, "relevance_score": answer.scores[index]}
        if documents is not None:
            result["document"] = {"text": documents[index]}
        results.append(result)
    return encode({"object": "list", "model": answer.model, "results": results, "usage": _usage(answer.prompt_tokens)})


def _base64(row: bytes) -> str:
    return base64.b64encode(row).decode("ascii")


def _numbers(row: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(row) // 4}f", row)


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": tokens, "total_tokens": tokens}
