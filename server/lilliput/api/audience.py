"""Who waits for which pull: one that only connections asked for ends with the last of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection


class Audience:
    """Counts the connections that listen to a job, and knows the jobs that must outlive them."""

    def __init__(self) -> None:
        self._listeners: Counter[str] = Counter()
        self._kept: set[str] = set()

    def keep(self, job_id: str, unfinished: Collection[str]) -> None:
        """Somebody wants this job done, connected or not; ``unfinished`` are the ids of all jobs that still run."""
        self._kept.intersection_update(unfinished)
        self._kept.add(job_id)

    def join(self, job_id: str, unfinished: Collection[str]) -> None:
        """A connection begins to listen; ``unfinished`` are the ids that ran before it asked.

        A job that ran already without listeners was started by somebody else, and is kept.
        """
        if job_id in unfinished and not self._listeners[job_id]:
            self.keep(job_id, unfinished)
        self._listeners[job_id] += 1

    def leave(self, job_id: str) -> bool:
        """A connection ends; True when nobody is left who wants the job."""
        self._listeners[job_id] -= 1
        if self._listeners[job_id] > 0:
            return False
        del self._listeners[job_id]
        return job_id not in self._kept
