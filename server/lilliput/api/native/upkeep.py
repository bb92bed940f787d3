"""Whether installed files are still what was installed, what lies about, and what the Hub has by now."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import ConfigDict, Field
from starlette.responses import Response

from lilliput.api.bodies import Body
from lilliput.api.context import Given
from lilliput.api.documents import answers
from lilliput.api.errors import encode
from lilliput.api.native.jobs import keep_job
from lilliput.api.streams import json_response
from lilliput.errors import ModelNotFound, StorageError
from lilliput.services.garbage import WEEK_S, Judged

router = APIRouter(prefix="/lilliput", tags=["Models"])

_MOST_NAMES = 1000
_MOST_PATHS = 100_000
_MOST_AGE_S = 1e9

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
_LEFTOVER: dict[str, Any] = {
    "path": f"{_FOLDER}/blobs/{_SHA256}",
    "kind": "model",
    "size_bytes": 2_019_377_696,
    "changed_at": 1766016000.0,
    "age_s": 1_209_600.0,
    "why": "no installed model refers to it",
}
_YOUNG: dict[str, Any] = {
    "path": f"{_FOLDER}/blobs/{_OTHER_SHA256}.lilliput.part",
    "kind": "part",
    "size_bytes": 734_003_200,
    "changed_at": 1767139200.0,
    "age_s": 86_400.0,
    "why": "younger than 7 days",
}
_GARBAGE = {"older_than_s": 604800.0, "size_bytes": 2_019_377_696, "garbage": [_LEFTOVER], "kept": [_YOUNG]}
_PRUNED = {"removed": [_LEFTOVER], "skipped": [], "freed_bytes": 2_019_377_696}
_READ_ONLY = StorageError(
    f"cannot write {_FOLDER}/blobs/{_SHA256}: Read-only file system", hint="check the folder's permissions and its disk"
)
_FRESHNESS: dict[str, Any] = {
    "model": "llama3.2:3b-q4_k_m",
    "state": "newer",
    "repo": "bartowski/Llama-3.2-3B-Instruct-GGUF",
    "revision": "5ab33fa94d1d04e903623ae72c95d1696f09f9e8",
    "hub_revision": "0d1c2b3a49586776859403928190a0b1c2d3e4f5",
    "changes": [
        {
            "path": "Llama-3.2-3B-Instruct-Q4_K_M.gguf",
            "change": "changed",
            "size_bytes": 2_019_377_696,
            "sha256": _SHA256,
            "hub_size_bytes": 2_019_378_112,
            "hub_sha256": _OTHER_SHA256,
        }
    ],
    "reason": "changed: Llama-3.2-3B-Instruct-Q4_K_M.gguf",
    "pull": "lilliput pull llama3.2:3b-q4_k_m",
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

Age = Annotated[float, Field(ge=0, le=_MOST_AGE_S)]
Names = Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=_MOST_NAMES)]


class VerifyBody(Body):
    """POST /lilliput/verifications."""

    models: Names = Field([], description="installed models; all without names")
    hub: bool = Field(False, description="also compare what was recorded with what the Hub says of that revision")

    model_config = ConfigDict(json_schema_extra={"example": {"models": ["llama3.2:3b"], "hub": True}})


class PruneBody(Body):
    """POST /lilliput/prune."""

    older_than_s: Age = Field(WEEK_S, description="leave what is younger")
    paths: Annotated[list[str], Field(max_length=_MOST_PATHS)] | None = Field(
        None, description="remove only these, of what may go"
    )

    model_config = ConfigDict(json_schema_extra={"example": {"older_than_s": 604800}})


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


@router.get(
    "/garbage",
    summary="Find what nobody needs",
    description="Files that nothing needs any more, in the data directory and, of what this server has fetched, in the "
    "Hub's cache: models that are not installed, incomplete downloads that no job goes on with, links that lead "
    "nowhere, saved prompts that were not used for long. `kept` tells what is too young or at work.",
    responses=answers(_GARBAGE, "native", _READ_ONLY),
    response_model=None,
)
async def find_garbage(given: Given, older_than_s: Annotated[Age, Query()] = WEEK_S) -> Response:
    """GET /lilliput/garbage."""
    verdict = await given.services.garbage.find(older_than_s)
    told = {
        "older_than_s": older_than_s,
        "size_bytes": verdict.size_bytes,
        "garbage": [_judged_json(one) for one in verdict.garbage],
        "kept": [_judged_json(one) for one in verdict.kept],
    }
    return json_response(encode(told))


@router.post(
    "/prune",
    summary="Remove what nobody needs",
    description="Remove what `GET /lilliput/garbage` shows, or of it only `paths`. Each file is looked at again: "
    "`skipped` are those that somebody uses by then. What it does not come to is found again by the next call.",
    responses=answers(_PRUNED, "native", _READ_ONLY),
    response_model=None,
)
async def prune(body: PruneBody, given: Given) -> Response:
    """POST /lilliput/prune."""
    paths = None if body.paths is None else frozenset(body.paths)
    pruned = await given.services.garbage.prune(body.older_than_s, paths)
    told = {
        "removed": [_judged_json(one) for one in pruned.removed],
        "skipped": [_judged_json(one) for one in pruned.skipped],
        "freed_bytes": pruned.freed_bytes,
    }
    return json_response(encode(told))


@router.get(
    "/outdated",
    summary="Compare models with the Hub",
    description="Installed models against what the Hub has now: `up-to-date`, `newer` (with what changed, and the pull "
    "that would update it), `gone`, or `unreachable` with the reason. `model` may be said several times; without it, "
    "all models that came from the Hub.",
    responses=answers({"models": [_FRESHNESS]}, "native", _MISSING),
    response_model=None,
)
async def outdated(given: Given, model: Annotated[Names | None, Query()] = None) -> Response:
    """GET /lilliput/outdated."""
    return json_response(encode({"models": list(await given.services.outdated.compare(model or ()))}))


def _judged_json(judged: Judged) -> dict[str, Any]:
    found = judged.found
    return {
        "path": str(found.path),
        "kind": found.kind,
        "size_bytes": found.size_bytes,
        "changed_at": found.changed_at,
        "age_s": judged.age_s,
        "why": judged.why,
    }
