"""What a job is, as everybody sees it, and how it lies on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, cast

from lilliput.catalogue import StoredJob
from lilliput.errors import LilliputError

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
FINISHED: frozenset[JobState] = frozenset({"done", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed: the error's code, message and hint."""

    code: str
    message: str
    hint: str | None = None

    @classmethod
    def of(cls, error: BaseException) -> JobError:
        """What to tell about ``error``; the text of one nobody foresaw is kept, under the code ``internal-error``."""
        if isinstance(error, LilliputError):
            return cls(error.code, error.message, error.hint)
        text = str(error) or type(error).__name__
        return cls(LilliputError.code, text, "this is a fault of lilliput; the daemon's log has the details")


@dataclass(frozen=True, slots=True)
class Job:
    """A snapshot of one job; byte counts are None while unknown, times are unix seconds.

    ``file`` and ``digest`` (``sha256:<hex>``) are of the file at work, byte counts of the whole job; ``eta_s`` counts
    from now. ``result`` fills up while the job runs (what was chosen and why), whole when ``state`` is ``done``. A
    queued one is number ``position`` of those of its kind that wait.
    """

    id: str
    kind: str
    model: str
    state: JobState
    created_at: float
    updated_at: float
    phase: str | None = None
    message: str | None = None
    file: str | None = None
    digest: str | None = None
    completed_bytes: int | None = None
    total_bytes: int | None = None
    rate_bytes_s: float | None = None
    eta_s: float | None = None
    error: JobError | None = None
    result: Mapping[str, Any] = field(default_factory=dict)
    position: int | None = None

    @property
    def finished(self) -> bool:
        """Whether the state will never change again."""
        return self.state in FINISHED


_KEPT = ("model", "phase", "message", "file", "digest", "completed_bytes", "total_bytes")


def to_stored(job: Job, request: Mapping[str, Any], key: str | None) -> StoredJob:
    """The job with the request it came from (rate and ETA are not kept: they mean nothing later)."""
    body: dict[str, Any] = {name: getattr(job, name) for name in _KEPT}
    body |= {"result": dict(job.result), "request": dict(request), "key": key, "error": None}
    if job.error is not None:
        body["error"] = asdict(job.error)
    return StoredJob(job.id, job.kind, job.state, job.created_at, job.updated_at, body)


def from_stored(stored: StoredJob) -> tuple[Job, Mapping[str, Any], str | None]:
    """The job, its request and its key; a job that had not finished is queued again."""
    body = stored.body
    error = body.get("error")
    kept: dict[str, Any] = {name: body.get(name) for name in _KEPT}
    job = Job(
        id=stored.id,
        kind=stored.kind,
        state=cast("JobState", stored.state),
        created_at=stored.created_at,
        updated_at=stored.updated_at,
        error=JobError(**error) if error is not None else None,
        result=body.get("result", {}),
        **kept,
    )
    if not job.finished:
        job = replace(job, state="queued", message="waiting to go on")
    return job, body.get("request", {}), body.get("key")
