"""What the daemon's answers hold. Fields the daemon adds later are ignored; what it does not know is None."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lilliput_client.errors import JobCancelled, JobFailed


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed."""

    code: str
    message: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A snapshot of one job; times are unix seconds, ``state`` one of queued, running, done, failed, cancelled."""

    id: str
    state: str
    kind: str = "pull"
    model: str = ""
    phase: str | None = None
    message: str | None = None
    file: str | None = None
    digest: str | None = None
    completed_bytes: int | None = None
    total_bytes: int | None = None
    rate_bytes_s: float | None = None
    eta_s: float | None = None
    error: JobError | None = None
    result: Mapping[str, Any] | None = None
    position: int | None = None
    created_at: float | None = None
    updated_at: float | None = None

    @property
    def finished(self) -> bool:
        """Whether the job will not change any more."""
        return self.state in ("done", "failed", "cancelled")

    def check(self) -> None:
        """Raise JobFailed or JobCancelled if that is how the job ended."""
        if self.state == "cancelled":
            raise JobCancelled(
                f"the {self.kind} of {self.model} was cancelled", hint="the same command goes on where it stopped"
            )
        if self.state == "failed":
            error = self.error or JobError("job-failed", f"the {self.kind} of {self.model} failed")
            raise JobFailed(error.message, code=error.code, hint=error.hint)


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of an installed model; ``sha256`` is bare hex."""

    path: str
    size_bytes: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """An installed model; ``installed_at`` is unix seconds."""

    name: str
    source: str | None = None
    repo: str | None = None
    revision: str | None = None
    quantization: str | None = None
    architecture: str | None = None
    context_length: int | None = None
    parameter_count: int | None = None
    license: str | None = None
    size_bytes: int | None = None
    digest: str | None = None
    installed_at: float | None = None
    files: tuple[ModelFile, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelDetails(Model):
    """An installed model, and the plain values of its file's header."""

    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EngineTotals:
    """What an engine has done since its model was loaded."""

    steps: int = 0
    prefill_tokens: int = 0
    decode_tokens: int = 0
    cached_tokens: int = 0
    preemptions: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0


@dataclass(frozen=True, slots=True)
class EngineStats:
    """What an engine does now: rates of the last seconds, means of a forward pass, cells of the KV cache."""

    prefill_tokens_s: float = 0.0
    decode_tokens_s: float = 0.0
    steps_s: float = 0.0
    mean_step_s: float | None = None
    mean_batch_tokens: float | None = None
    kv_cells_used: int = 0
    kv_cells: int = 0
    totals: EngineTotals = EngineTotals()


@dataclass(frozen=True, slots=True)
class Engine:
    """A model in memory; ``state`` is loading, ready, draining, stopping or failed, times are unix seconds.

    It ends at ``expires_at`` if it is not used before; one that is ``pinned`` stays. While it loads, ``progress`` of
    its file is there, from 0 to 1. ``by_caller`` are the sequences of each caller, the most first. One that failed says
    why in ``error`` and, in ``log_tail``, what it printed last. ``degraded`` says
    what it had to give up because memory was short, and whom it stands in for.
    """

    model: str
    role: str = "generate"
    state: str = "ready"
    pid: int | None = None
    context_tokens: int | None = None
    slots: int | None = None
    active: int = 0
    waiting: int = 0
    cached_tokens: int | None = None
    memory_bytes: int | None = None
    settings: Mapping[str, Any] | None = None
    loaded_at: float | None = None
    last_used_at: float | None = None
    load_s: float | None = None
    pinned: bool = False
    expires_at: float | None = None
    progress: float | None = None
    by_caller: tuple[int, ...] = ()
    error: str | None = None
    log_tail: tuple[str, ...] = ()
    failed_at: float | None = None
    degraded: tuple[str, ...] = ()
    stats: EngineStats | None = None


@dataclass(frozen=True, slots=True)
class PromptDetails:
    """How much of a prompt was already known to the engine."""

    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one request, and the seconds its parts took when the daemon tells them.

    ``discarded_tokens`` were given up because the context was full and the request had asked to go on.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: PromptDetails | None = None
    discarded_tokens: int = 0
    load_s: float | None = None
    prefill_s: float | None = None
    decode_s: float | None = None


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors of length 1 in the order of the inputs."""

    vectors: tuple[tuple[float, ...], ...]
    model: str
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """How an answer is made; None leaves the choice to the daemon, ``extra`` goes into the request body as it is."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] | None = None
    response_format: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delta:
    """More text of choice ``index``; its last one has a ``finish_reason``, the stream's last one the ``usage``."""

    text: str = ""
    index: int = 0
    finish_reason: str | None = None
    usage: Usage | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: of the first choice in ``text``, of all of them in ``texts``."""

    text: str
    texts: tuple[str, ...]
    model: str
    finish_reason: str | None = None
    usage: Usage | None = None
