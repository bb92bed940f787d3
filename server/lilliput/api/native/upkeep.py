"""Whether installed files are still what was installed, what lies about, and what the Hub has by now."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import ConfigDict, Field
from starlette.responses import Response

from lilliput.api.bodies import Body
from lilliput.api.context import Given
from lilliput.api.documents import answers
from lilliput.api.native.jobs import keep_job
from lilliput.errors import ModelNotFound

router = APIRouter(prefix="/lilliput", tags=["Models"])

_MOST_NAMES = 1000

_SHA256 = "4e8a1f1b0c7d2a3e5f60718293a4b5c6d7e8f9000112233445566778899aabbc"
_OTHER_SHA256 = "77ab3c5d1e0f2a4b6c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d"
_FOLDER = "/home/ann/.cache/huggingface/hub/models--bartowski--Llama-3.2-3B-Instruct-GGUF"
_MISSING = ModelNotFound("the model 'llama9' is not installed", hint="lilliput list shows what is")
_FILE: dict[str, Any] = {
    "model": "llama3.2:3b-q4_k_m",
    "path": f"{_FOLDER}/snapshots/5ab33fa94d1d04e903623ae72c95d1696f09f9e8/Llama-3.2-3B-Instruct-Q4_K_M.gguf",
    "size_bytes": 2_019_377_696,
    "state": "damaged",
    "found_bytes": 2_019_377_696,
    "expected_sha256": _SHA256,
    "found_sha256": _OTHER_SHA256,
    "fault": f"its SHA-256 is {_OTHER_SHA256}, {_SHA256} was expected",
    "hub": None,
    "hub_reason": None,
    "remedy": "lilliput pull llama3.2:3b-q4_k_m",
}
_JOB: dict[str, Any] = {
    "id": "job-6954d2809c0f2a18",
    "kind": "verify",
    "model": "all models",
    "state": "done",
    "created_at": 1767225600.0,
    "updated_at": 1767225604.5,
    "phase": "done",
    "message": "1 of 1 file damaged",
    "file": None,
    "digest": None,
    "completed_bytes": 2_019_377_696,
    "total_bytes": 2_019_377_696,
    "rate_bytes_s": None,
    "eta_s": None,
    "error": None,
    "result": {"files": [_FILE], "checked": 1, "damaged": 1},
}

Names = Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=_MOST_NAMES)]


class VerifyBody(Body):
    """POST /lilliput/verifications."""

    models: Names = Field([], description="installed models; all without names")
    hub: bool = Field(False, description="also compare what was recorded with what the Hub says of that revision")

    model_config = ConfigDict(json_schema_extra={"example": {"models": ["llama3.2:3b"], "hub": True}})


@router.post(
    "/verifications",
    status_code=202,
    summary="Verify models",
    description="Hash the files of installed models again and compare with what was recorded when they were installed, "
    "in the background. The answer is a job; its result tells each file's `state`: sound, damaged, missing, "
    "unreadable, recorded (it had no digest before), or changed (somebody has written it since). Nothing is removed: "
    "the next pull of a damaged model fetches what is not sound.",
    responses=answers(_JOB, "native", _MISSING, status=202),
    response_model=None,
)
async def verify(body: VerifyBody, given: Given) -> Response:
    """POST /lilliput/verifications."""
    job = await given.services.verifications.start(body.models, hub=body.hub)
    return keep_job(job, given)
