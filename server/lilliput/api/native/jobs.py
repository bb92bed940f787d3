"""Pulls and the jobs they become."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field
from starlette.responses import Response

from lilliput.api.context import Context, Given, request_id
from lilliput.api.documents import answers
from lilliput.api.errors import Fault, body_of, encode
from lilliput.api.native.terms import TermsBody
from lilliput.api.streams import SSE, StreamResponse, Surroundings, json_response, sse
from lilliput.errors import BadName, JobNotFound, ModelNotFound, ShuttingDown
from lilliput.services.job_records import Job

router = APIRouter(prefix="/lilliput", tags=["Jobs"])

_JOB: dict[str, Any] = {
    "id": "job-6954d2809c0f2a17",
    "kind": "pull",
    "model": "llama3.1:8b",
    "state": "running",
    "created_at": 1767225600.0,
    "updated_at": 1767225660.5,
    "phase": "downloading",
    "message": "Q4_K_M (4.6 GiB): the best quality that fits",
    "file": "Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf",
    "digest": "sha256:7b064f5842bf9532c91456deda288a1b672397a54fa729aa665952863033557c",
    "completed_bytes": 1_204_000_000,
    "total_bytes": 4_920_739_232,
    "rate_bytes_s": 41_200_000.0,
    "eta_s": 90.2,
    "position": None,
    "error": None,
    "result": {
        "name": "llama3.1:8b-q4_k_m",
        "quantization": "Q4_K_M",
        "reason": "the best quality that fits",
        "setting": {
            "context_tokens": 8192,
            "slots": 8,
            "kv_type": "f16",
            "gpu_layers": 0,
            "cpu_expert_layers": 0,
        },
    },
}
_UNKNOWN = JobNotFound("there is no job job-0", hint="finished jobs are forgotten after a while")
_PULL_ERRORS = (
    BadName("'a b' is no model name", hint="names look like llama3.1:8b or org/repo:Q4_K_M"),
    ModelNotFound("there is no model 'llama9'", hint="did you mean llama3?"),
    ShuttingDown("the daemon is stopping and takes no new jobs", hint="start it again, then try again"),
)


class PullBody(TermsBody):
    """POST /lilliput/pulls."""

    model: str = Field(min_length=1, description="a family (llama3.1:8b), a repository (org/repo:Q4_K_M) or a file")
    variant: str | None = Field(None, description="a quantization or file name; goes before what the name says")

    model_config = ConfigDict(json_schema_extra={"example": {"model": "llama3.1:8b", "context": 8192}})


class JobWriter:
    """Writes each snapshot of a job as a server-sent event."""

    def opening(self) -> bytes:
        """Nothing: the first snapshot comes at once."""
        return b""

    def event(self, event: Job) -> bytes:
        """One snapshot."""
        return sse(encode(event))

    def closing(self) -> bytes:
        """Nothing: a finished snapshot has told the end."""
        return b""

    def failure(self, fault: Fault) -> bytes:
        """The error in-band; when the server stops, the stream just ends: the job goes on with the next start."""
        return b"" if fault.code == ShuttingDown.code else sse(body_of(fault, "native"))


@router.post(
    "/pulls",
    status_code=202,
    summary="Start a pull",
    description="Download and install a model in the background. While a pull of the same model runs, the answer is "
    "that pull's job. The job survives restarts of the server. What is asked for beside the model decides what is "
    "chosen, and holds for every later load.",
    responses=answers(_JOB, "native", *_PULL_ERRORS, status=202),
    response_model=None,
)
async def start_pull(body: PullBody, given: Given) -> Response:
    """POST /lilliput/pulls."""
    job = await given.services.pulls.start(
        body.model,
        variant=body.variant,
        terms=body.terms,
    )
    return keep_job(job, given)


@router.get(
    "/jobs",
    summary="List jobs",
    description="All jobs that are remembered, oldest first.",
    responses=answers({"jobs": [_JOB]}, "native"),
    response_model=None,
)
async def list_jobs(given: Given) -> Response:
    """GET /lilliput/jobs."""
    return json_response(encode({"jobs": list(given.services.jobs.list())}))


@router.get(
    "/jobs/{job_id}",
    summary="Show a job",
    description="One job as it is now.",
    responses=answers(_JOB, "native", _UNKNOWN),
    response_model=None,
)
async def show_job(job_id: str, given: Given) -> Response:
    """GET /lilliput/jobs/{id}."""
    return json_response(encode(given.services.jobs.get(job_id)))


@router.get(
    "/jobs/{job_id}/events",
    summary="Follow a job",
    description="Server-sent events, each `data:` a whole job: the one of now, then newer ones, a finished one last.",
    responses=answers(None, "native", _UNKNOWN, stream=("text/event-stream", sse(encode(_JOB)).decode())),
    response_model=None,
)
async def follow_job(job_id: str, given: Given, request: Request) -> Response:
    """GET /lilliput/jobs/{id}/events."""
    events = given.services.jobs.events(job_id)
    around = Surroundings(given.stop, given.heartbeat_s, request_id(request))
    return StreamResponse(events, _nothing, JobWriter(), SSE, around)


@router.delete(
    "/jobs/{job_id}",
    summary="Cancel a job",
    description="Stop a job; what a pull has downloaded stays and is used by the next. A finished job stays as it is.",
    responses=answers({**_JOB, "state": "cancelled"}, "native", _UNKNOWN),
    response_model=None,
)
async def cancel_job(job_id: str, given: Given) -> Response:
    """DELETE /lilliput/jobs/{id}."""
    return json_response(encode(await given.services.jobs.cancel(job_id)))


def keep_job(job: Job, given: Context) -> Response:
    """The answer to who started a job, which goes on when they leave."""
    given.audience.keep(job.id, _unfinished(given))
    return json_response(encode(job), 202, {"location": f"/lilliput/jobs/{job.id}"})


def _unfinished(given: Context) -> set[str]:
    return {job.id for job in given.services.jobs.list() if not job.finished}


async def _nothing() -> None:
    """Nobody but this response holds its events."""
