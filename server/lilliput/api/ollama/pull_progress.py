"""A pull job told as Ollama tells pulls: fixed statuses in a fixed order, progress in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lilliput.api.errors import Fault, body_of, fault_of_code
from lilliput.api.streams import ndjson
from lilliput.errors import Cancelled, LilliputError
from lilliput.services.job_records import Job

LEAST_INTERVAL_S = 0.06
LAST_STATUS = "success"
_ENDING = ("verifying sha256 digest", "writing manifest", LAST_STATUS)


@dataclass(frozen=True, slots=True)
class _Layer:
    """A file of the variant as its lines name it."""

    line: dict[str, Any]
    size_bytes: int


class PullWriter:
    """Writes NDJSON: ``pulling manifest``, progress of the layers (files) one after the other, the ending statuses.

    A layer goes by its digest, or by its name where the Hub knows none. Progress lines come at most once in 60 ms; the
    first of a layer that is fetched and the complete one of every layer always. What is there already is one line.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told_s = float("-inf")
        self._told_bytes: int | None = None
        self._layers: tuple[_Layer, ...] = ()
        self._complete = 0

    def opening(self) -> bytes:
        """The first status."""
        return ndjson({"status": "pulling manifest"})

    def event(self, event: Job) -> bytes:
        """The lines that a snapshot of the job is worth."""
        self._layers = self._layers or _layers(event)
        if event.state == "done":
            every_byte = sum(layer.size_bytes for layer in self._layers)
            return self._progress(every_byte) + b"".join(ndjson({"status": text}) for text in _ENDING)
        if event.state in ("failed", "cancelled"):
            return self.failure(job_fault(event))
        if event.completed_bytes is None:  # the files are known, but not yet how much of them is there already
            return b""
        return self._progress(event.completed_bytes, fetching=event.phase == "downloading")

    def closing(self) -> bytes:
        """Nothing: the last status has ended it."""
        return b""

    def failure(self, fault: Fault) -> bytes:
        """The error as a line."""
        return body_of(fault, "ollama") + b"\n"

    def _progress(self, completed_bytes: int, *, fetching: bool = False) -> bytes:
        """The lines for so many bytes of all layers; a layer that is fetched again is told again."""
        complete, rest_bytes = 0, completed_bytes
        while complete < len(self._layers) and rest_bytes >= self._layers[complete].size_bytes:
            rest_bytes -= self._layers[complete].size_bytes
            complete += 1
        lines = [_line(layer, layer.size_bytes) for layer in self._layers[self._complete : complete]]
        if complete != self._complete:
            self._complete, self._told_bytes = complete, None
        if complete < len(self._layers) and (rest_bytes or fetching) and self._is_due(rest_bytes):
            lines.append(_line(self._layers[complete], rest_bytes))
            self._told_s, self._told_bytes = self._clock(), rest_bytes
        return b"".join(lines)

    def _is_due(self, completed_bytes: int) -> bool:
        if self._told_bytes is None:
            return True
        return completed_bytes != self._told_bytes and self._clock() - self._told_s >= LEAST_INTERVAL_S


def _layers(job: Job) -> tuple[_Layer, ...]:
    return tuple(_Layer(_head(file), file["size_bytes"]) for file in job.result.get("files", ()))


def _head(file: Mapping[str, Any]) -> dict[str, Any]:
    if file["sha256"] is None:
        return {"status": f"pulling {file['path']}"}
    return {"status": f"pulling {file['sha256'][:12]}", "digest": f"sha256:{file['sha256']}"}


def _line(layer: _Layer, completed_bytes: int) -> bytes:
    line = {**layer.line, "total": layer.size_bytes}
    return ndjson({**line, "completed": completed_bytes} if completed_bytes else line)


def job_fault(job: Job) -> Fault:
    """What to tell about a job that has failed or was cancelled."""
    if job.error is None:
        code = Cancelled.code if job.state == "cancelled" else LilliputError.code
        return fault_of_code(code, f"the pull of {job.model} was {job.state}", None)
    return fault_of_code(job.error.code, job.error.message, job.error.hint)
