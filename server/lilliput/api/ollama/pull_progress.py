"""A pull job told as Ollama tells pulls: fixed statuses in a fixed order, progress in between."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from lilliput.api.errors import Fault, body_of, fault_of_code
from lilliput.api.streams import ndjson
from lilliput.errors import Cancelled, LilliputError
from lilliput.services.job_records import Job

LEAST_INTERVAL_S = 0.06
LAST_STATUS = "success"
_ENDING = ("verifying sha256 digest", "writing manifest", LAST_STATUS)


class PullWriter:
    """Writes NDJSON: ``pulling manifest``, progress of one layer (all files of the variant), and the ending statuses.

    The layer goes by the first file's digest. Progress lines come at most once in 60 ms, the complete one always.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told_s = float("-inf")
        self._told_bytes: int | None = None
        self._layer: dict[str, Any] | None = None
        self._total_bytes = 0

    def opening(self) -> bytes:
        """The first status."""
        return ndjson({"status": "pulling manifest"})

    def event(self, event: Job) -> bytes:
        """The lines that a snapshot of the job is worth."""
        self._learn(event)
        if event.state == "done":
            return self._progress(self._total_bytes, due=True) + b"".join(ndjson({"status": text}) for text in _ENDING)
        if event.state in ("failed", "cancelled"):
            return self.failure(job_fault(event))
        if event.completed_bytes is None:  # the file is known, but not yet how much of it is there already
            return b""
        return self._progress(event.completed_bytes, due=False)

    def closing(self) -> bytes:
        """Nothing: the last status has ended it."""
        return b""

    def failure(self, fault: Fault) -> bytes:
        """The error as a line."""
        return body_of(fault, "ollama") + b"\n"

    def _learn(self, job: Job) -> None:
        files = job.result.get("files") or ()
        digest = job.digest or next((file.get("sha256") for file in files), None)
        if self._layer is None and digest is not None:
            bare = str(digest).removeprefix("sha256:")
            self._layer = {"status": f"pulling {bare[:12]}", "digest": f"sha256:{bare}"}
        elif self._layer is None and job.file is not None:
            self._layer = {"status": f"pulling {job.file}"}
        self._total_bytes = job.total_bytes or job.result.get("size_bytes") or self._total_bytes

    def _progress(self, completed_bytes: int, *, due: bool) -> bytes:
        now = self._clock()
        if self._layer is None or not self._total_bytes or completed_bytes == self._told_bytes:
            return b""
        if not due and now - self._told_s < LEAST_INTERVAL_S:
            return b""
        self._told_s, self._told_bytes = now, completed_bytes
        line = {**self._layer, "total": self._total_bytes}
        if completed_bytes:
            line["completed"] = completed_bytes
        return ndjson(line)


def job_fault(job: Job) -> Fault:
    """What to tell about a job that has failed or was cancelled."""
    if job.error is None:
        code = Cancelled.code if job.state == "cancelled" else LilliputError.code
        return fault_of_code(code, f"the pull of {job.model} was {job.state}", None)
    return fault_of_code(job.error.code, job.error.message, job.error.hint)
