"""What /docs shows of the routes for embeddings and rankings."""

from __future__ import annotations

from typing import Any

from lilliput.api.documents import answers
from lilliput.api.errors import Fault, fault_of
from lilliput.api.guard import foreign_host, foreign_origin, too_large
from lilliput.errors import Busy, DoesNotFit, EngineDied, InputTooLong, InvalidRequest, ModelNotFound

_ERRORS = (
    Fault(400, "invalid-request", "'input' is required", param="input"),
    InputTooLong("input 0 has 602 tokens, more than the 512 that the model takes at once", hint="split it"),
    foreign_host("evil.example"),
    foreign_origin("https://evil.example"),
    ModelNotFound("model 'llama9' is not installed", hint="lilliput pull llama9"),
    too_large(32 * 1024 * 1024),
    fault_of(RuntimeError()),
    Busy("64 requests are waiting already", retry_after_s=2.0),
    EngineDied("the engine of 'all-minilm:l6-v2' ended with signal 9"),
    DoesNotFit("bge-m3 needs 1.8 GiB, the budget is 1.2 GiB", need_bytes=1932735283, budget_bytes=1288490188),
)
_EMBEDDINGS: dict[str, Any] = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.0431, -0.0127, 0.0889]}],
    "model": "all-minilm:l6-v2",
    "usage": {"prompt_tokens": 11, "total_tokens": 11},
}
_RANKING: dict[str, Any] = {
    "object": "list",
    "model": "bge-reranker:v2-m3",
    "results": [{"index": 0, "relevance_score": 0.93}, {"index": 1, "relevance_score": 0.02}],
    "usage": {"prompt_tokens": 41, "total_tokens": 41},
}
_NO_RERANKER = InvalidRequest("smollm2:135m is no reranker: its file names no pooling of the kind 'rank'")

EMBEDDINGS = answers(_EMBEDDINGS, "openai", *_ERRORS)
RERANK = answers(_RANKING, "openai", *_ERRORS[1:], _NO_RERANKER)
