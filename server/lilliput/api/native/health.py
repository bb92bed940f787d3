"""Whether the server lives and is ready, and a word for those who look at its root."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

from lilliput.api.context import Given
from lilliput.api.documents import answers
from lilliput.api.errors import encode
from lilliput.api.streams import json_response

router = APIRouter(tags=["Health"])

_STARTING = {"description": "Starting", "content": {"application/json": {"example": {"status": "starting"}}}}


@router.head("/", include_in_schema=False, response_model=None)
@router.get(
    "/",
    summary="Greet",
    description="One line of text that tells that the server runs.",
    responses=answers("lilliput is running", "native"),
    response_model=None,
)
async def root() -> Response:
    """GET /."""
    return PlainTextResponse("lilliput is running")


@router.get(
    "/health/live",
    summary="Liveness",
    description="200 as long as the server's loop turns, whatever its engines do.",
    responses=answers({"status": "live"}, "native"),
    response_model=None,
)
async def live() -> Response:
    """GET /health/live."""
    return json_response(b'{"status":"live"}')


@router.get(
    "/health/ready",
    summary="Readiness",
    description="200 once the server has started and knows its accelerators, 503 before that and while it stops. "
    "Plans and loads that are asked for earlier wait.",
    responses={**answers({"status": "ready"}, "native"), 503: _STARTING},
    response_model=None,
)
async def ready(given: Given) -> Response:
    """GET /health/ready."""
    is_ready = given.services.ready() and not given.stop.is_set()
    return json_response(encode({"status": "ready" if is_ready else "starting"}), 200 if is_ready else 503)
