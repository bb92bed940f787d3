"""What is wrong with this machine and this installation, and what to do about it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from lilliput.api.context import Given
from lilliput.api.documents import answers
from lilliput.api.errors import encode
from lilliput.api.streams import json_response

router = APIRouter(prefix="/lilliput", tags=["Machine"])

_REPORT: dict[str, Any] = {
    "verdict": "problem",
    "counts": {"ok": 13, "warning": 1, "problem": 1, "unknown": 1},
    "checks": [
        {
            "check": "files",
            "title": "files of models",
            "verdict": "problem",
            "summary": "/models/a.gguf of smollm2:135m is gone",
            "evidence": {"models": 1, "files": 1, "bytes": 98_000_000, "missing": ["/models/a.gguf"]},
            "remedy": "`lilliput pull smollm2:135m` brings it back, `lilliput rm smollm2:135m` forgets it",
            "took_s": 0.001,
        }
    ],
    "checked_at": 1767225600.0,
    "took_s": 1.02,
}


@router.get(
    "/doctor",
    summary="Find out what is wrong",
    description="Checks of the machine, the installation, the models' files and the Hub, all at once, in 1 to 5 "
    "seconds. Each has a `verdict` (`ok`, `warning`, `problem`, or `unknown` where it could not be found out), the "
    "numbers it rests on (`evidence`) and what to do (`remedy`). Only the configured Hub is asked.",
    responses=answers(_REPORT, "native"),
    response_model=None,
)
async def doctor(given: Given) -> Response:
    """GET /lilliput/doctor."""
    return json_response(encode(await given.services.doctor()))
