"""The routes for embeddings and rankings."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import Response

from lilliput.api.asking import asking
from lilliput.api.attention import attended
from lilliput.api.context import Given
from lilliput.api.openai import embedding_examples as examples
from lilliput.api.openai.embedding_body import EmbeddingBody, RerankBody
from lilliput.api.openai.embedding_writer import embeddings_json, ranking_json
from lilliput.api.openai.routes import of_named_file, variant_header
from lilliput.api.streams import json_response

router = APIRouter(tags=["OpenAI"])


@router.post(
    "/v1/embeddings",
    summary="Embed",
    description="Vectors of length 1 for texts, by an embedding model or by the mean of a generation model's last "
    "layer. An input longer than the model's window is refused, never cut.",
    responses=examples.EMBEDDINGS,
    response_model=None,
)
async def embeddings(body: EmbeddingBody, given: Given, request: Request) -> Response:
    """POST /v1/embeddings."""
    wanted = asking(request, given).of_vectors(body.request())

    async def work() -> tuple[bytes, dict[str, str]]:
        answer = await of_named_file(body.model, lambda: given.services.embedder.embed(wanted))
        text = await asyncio.to_thread(embeddings_json, answer, as_base64=body.encoding_format == "base64")
        return text, variant_header(answer)

    content, headers = await attended(work(), request.receive, given.drained)
    return json_response(content, headers=headers)


@router.post("/rerank", include_in_schema=False, response_model=None)
@router.post(
    "/v1/rerank",
    summary="Rank documents",
    description="How relevant documents are to a query, by a reranker (a model whose pooling is `rank`), in the form "
    "of Jina's and Cohere's services; also at `/rerank`. A score is the classifier's probability, from 0 to 1: the "
    "logistic of its logit where there is one.",
    responses=examples.RERANK,
    response_model=None,
)
async def rerank(body: RerankBody, given: Given, request: Request) -> Response:
    """POST /v1/rerank and /rerank."""
    wanted = asking(request, given).of_vectors(body.request())

    async def work() -> tuple[bytes, dict[str, str]]:
        answer = await of_named_file(body.model, lambda: given.services.embedder.rank(wanted))
        shown = wanted.documents if body.return_documents else None
        return ranking_json(answer, body.top_n, shown), variant_header(answer)

    content, headers = await attended(work(), request.receive, given.drained)
    return json_response(content, headers=headers)
