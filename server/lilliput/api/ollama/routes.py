"""The routes of Ollama's dialect."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field, model_validator
from starlette.responses import Response

from lilliput.api.attention import attended
from lilliput.api.bodies import Body
from lilliput.api.context import Context, Given, request_id
from lilliput.api.documents import answers
from lilliput.api.errors import body_of, encode
from lilliput.api.ollama.pull_progress import LAST_STATUS, PullWriter, job_fault
from lilliput.api.ollama.tags import tag
from lilliput.api.streams import NDJSON, StreamResponse, Surroundings, json_response, ndjson
from lilliput.errors import BadName, JobNotFound, ModelNotFound
from lilliput.services.job_records import Job

router = APIRouter(prefix="/api", tags=["Ollama"])

_MISSING = ModelNotFound("model 'llama9' is not installed", hint="lilliput list shows what is")
_UNNAMED = BadName("'a b' is no model name", hint="names look like llama3.1:8b or org/repo:Q4_K_M")
_PULL_LINES = b"".join(
    ndjson(line)
    for line in (
        {"status": "pulling manifest"},
        {"status": "pulling a8cc1361f314", "digest": "sha256:a8cc…", "total": 98_000_000, "completed": 241_970},
        {"status": "verifying sha256 digest"},
        {"status": "writing manifest"},
        {"status": LAST_STATUS},
    )
).decode()
_TAG = {
    "name": "smollm2:135m",
    "model": "smollm2:135m",
    "modified_at": "2026-01-01T00:00:00Z",
    "size": 98_016_160,
    "digest": "4e8a1f1b0c7d2a3e5f60718293a4b5c6d7e8f9000112233445566778899aabbc",
    "details": {
        "parent_model": "",
        "format": "gguf",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": "134.5M",
        "quantization_level": "Q4_1",
    },
}


class NamedBody(Body):
    """A body that names a model, as ``model`` or, in older clients, as ``name``."""

    model: str = Field(min_length=1, description="the model; `name` means the same")

    model_config = ConfigDict(json_schema_extra={"example": {"model": "smollm2:135m"}})

    @model_validator(mode="before")
    @classmethod
    def _by_either_name(cls, value: Any) -> Any:
        if isinstance(value, dict) and not value.get("model") and value.get("name"):
            return {**value, "model": value["name"]}
        return value


class PullBody(NamedBody):
    """POST /api/pull."""

    stream: bool | None = Field(None, description="false: answer once, at the end")


@router.post(
    "/pull",
    summary="Pull a model",
    description="Download and install a model. Progress comes as NDJSON, one layer for each file, unless `stream` is "
    'false; a failure after the first line is a line `{"error": …}`. Closing the connection cancels the pull, unless '
    "somebody else wants it.",
    responses=answers(
        {"status": LAST_STATUS}, "ollama", _UNNAMED, _MISSING, stream=("application/x-ndjson", _PULL_LINES)
    ),
    response_model=None,
)
async def pull(body: PullBody, given: Given, request: Request) -> Response:
    """POST /api/pull."""
    jobs = given.services.jobs
    before = {job.id for job in jobs.list() if not job.finished}
    job = await given.services.pulls.start(body.model)
    events = jobs.events(job.id)
    given.audience.join(job.id, before)
    if body.stream is False:
        return await _pull_whole(job, events, given, request)

    async def leave() -> None:
        await _leave(job, given)

    around = Surroundings(given.stop, given.heartbeat_s, request_id(request))
    return StreamResponse(events, leave, PullWriter(), NDJSON, around)


@router.head("/tags", include_in_schema=False, response_model=None)
@router.get(
    "/tags",
    summary="List models",
    description="All installed models, newest first.",
    responses=answers({"models": [_TAG]}, "ollama"),
    response_model=None,
)
async def tags(given: Given) -> Response:
    """GET /api/tags."""
    installed = sorted(await given.services.models.list(), key=lambda model: model.installed_at, reverse=True)
    return json_response(ndjson({"models": [tag(model) for model in installed]}))


@router.delete(
    "/delete",
    summary="Delete a model",
    description="Remove an installed model. The answer is 200 without a body.",
    responses=answers(None, "ollama", _UNNAMED, _MISSING),
    response_model=None,
)
async def delete(body: NamedBody, given: Given) -> Response:
    """DELETE /api/delete."""
    await given.services.models.remove(body.model)
    return Response(status_code=200)


@router.head("/version", include_in_schema=False, response_model=None)
@router.get(
    "/version",
    summary="Version",
    description="The version of this server.",
    responses=answers({"version": "0.1.0"}, "ollama"),
    response_model=None,
)
async def version(given: Given) -> Response:
    """GET /api/version."""
    return json_response(encode({"version": given.services.version}))


async def _pull_whole(job: Job, events: AsyncIterator[Job], given: Context, request: Request) -> Response:
    async def last() -> Job:
        newest = job
        async for snapshot in events:
            newest = snapshot
        return newest

    try:
        ended = await attended(last(), request.receive, given.stop)
    finally:
        await _leave(job, given)
    if ended.state == "done":
        return json_response(encode({"status": LAST_STATUS}))
    fault = job_fault(ended)
    return json_response(body_of(fault, "ollama"), fault.status, fault.headers)


async def _leave(job: Job, given: Context) -> None:
    """One listener less; the last one's leaving ends the pull, but the server's own stop leaves it to be resumed."""
    nobody_waits = given.audience.leave(job.id)
    if not nobody_waits or given.stop.is_set():
        return
    with suppress(JobNotFound):  # it ended, and is forgotten already
        if not given.services.jobs.get(job.id).finished:
            await given.services.jobs.cancel(job.id)
