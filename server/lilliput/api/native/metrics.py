"""Metrics for monitoring."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from lilliput.api.context import Given

router = APIRouter(tags=["Health"])

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_EXAMPLE = """# HELP lilliput_requests_total Requests by how they ended.
# TYPE lilliput_requests_total counter
lilliput_requests_total{model="smollm2:135m",outcome="done"} 12.0
"""


@router.get(
    "/metrics",
    summary="Metrics",
    description="Requests by outcome, times to first tokens, waits, tokens; and of each engine its passes, tokens, "
    "cells, preemptions and drafts, in Prometheus' text format.",
    responses={200: {"description": "OK", "content": {"text/plain": {"example": _EXAMPLE}}}},
    response_model=None,
)
async def metrics(given: Given) -> Response:
    """GET /metrics."""
    return Response(given.services.metrics(), headers={"content-type": CONTENT_TYPE})
