"""Long work that outlives the request that asked for it: jobs, their progress, and their life across restarts."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

from lilliput.catalogue import StoredJob
from lilliput.errors import Cancelled, JobNotFound, LilliputError, ShuttingDown
from lilliput.services.job_handle import JobHandle, Runner
from lilliput.services.job_records import Job, JobError, JobState, from_stored, to_stored

log = logging.getLogger(__name__)

KEEP_FINISHED = 200
KEEP_FINISHED_S = 30 * 24 * 3600.0
SAVE_EVERY_S = 1.0


class JobStore(Protocol):
    """Where jobs are kept; calls may block and are made in threads, one at a time for each job."""

    def save_job(self, job: StoredJob) -> None:
        """Write a job, in place of its earlier state."""
        ...

    def load_jobs(self) -> tuple[StoredJob, ...]:
        """All jobs, oldest first."""
        ...

    def delete_jobs(self, ids: Iterable[str]) -> None:
        """Forget jobs."""
        ...


@dataclass(frozen=True, slots=True)
class Clock:
    """Where times come from: ``wall`` in unix seconds, ``monotonic`` in seconds for rates."""

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


@dataclass(slots=True, eq=False)
class _Entry:
    """One job in memory: its newest snapshot, and what runs it."""

    job: Job
    request: Mapping[str, Any]
    key: str | None
    changed: asyncio.Event = field(
        default_factory=asyncio.Event
    )  # set once: when this snapshot is no longer the newest
    accepted: asyncio.Task[None] | None = None
    work: asyncio.Task[Mapping[str, Any]] | None = None
    supervisor: asyncio.Task[None] | None = None
    saver: asyncio.Task[None] | None = None
    unsaved: bool = False
    saved_at_s: float = 0.0
    cancel_wanted: bool = False


class Jobs:
    """Owner of all jobs, in one event loop. Of each kind so many run at once as ``limits`` says, ``limit`` where it
    says nothing; the rest wait in order.

    A job is on disk before it is acknowledged, its end before it is shown, its progress at most once a second.
    ``start`` goes on with what a former process left unfinished; ``aclose`` interrupts what runs, to be resumed later.
    """

    def __init__(
        self,
        store: JobStore,
        limits: Mapping[str, int] = MappingProxyType({}),
        *,
        limit: int = 2,
        clock: Clock | None = None,
    ) -> None:
        self._store = store
        self._limits = limits
        self._limit = limit
        self._clock = clock if clock is not None else Clock()
        self._runners: dict[str, Runner] = {}
        self._entries: dict[str, _Entry] = {}
        self._waiting: deque[_Entry] = deque()
        self._running: set[_Entry] = set()
        self._closing = False

    def register(self, kind: str, runner: Runner) -> None:
        """Have jobs of ``kind`` done by ``runner``; to be said before ``start``."""
        self._runners[kind] = runner

    async def start(self) -> None:
        """Load the jobs of former processes and go on with those that had not finished; StorageError."""
        for stored in await asyncio.to_thread(self._store.load_jobs):
            entry = _Entry(*from_stored(stored))
            self._entries[stored.id] = entry
            if not entry.job.finished:
                self._waiting.append(entry)
        await self._prune()
        self._fill()

    async def submit(self, kind: str, model: str, request: Mapping[str, Any], *, key: str | None = None) -> Job:
        """Accept a job: once this returns it is on disk and will be done, if need be by a later process.

        An unfinished job of the same ``kind`` and ``key`` is returned instead of a second one. ``request`` holds plain
        JSON values. Raises ShuttingDown, StorageError.
        """
        if self._closing:
            raise ShuttingDown("the daemon is stopping and takes no new jobs", hint="start it again, then try again")
        entry = self._same(kind, key)
        if entry is None:
            now = self._clock.wall()
            job = Job(f"job-{int(now):08x}{secrets.token_hex(4)}", kind, model, "queued", now, now)
            entry = _Entry(job, request, key)
            self._entries[job.id] = entry
            entry.accepted = asyncio.create_task(self._accept(entry), name=f"accept {job.id}")
        if entry.accepted is not None:
            await asyncio.shield(entry.accepted)  # a caller that goes away must not leave half a job
        return entry.job

    def get(self, job_id: str) -> Job:
        """The newest snapshot; JobNotFound for an id that is unknown or past its retention."""
        return self._entry(job_id).job

    def list(self) -> tuple[Job, ...]:
        """All jobs, oldest first."""
        return tuple(sorted((entry.job for entry in self._entries.values()), key=lambda job: (job.created_at, job.id)))

    def events(self, job_id: str) -> AsyncIterator[Job]:
        """The snapshot of now, then the newest one after changes (a slow reader misses some), the finished one last.

        Ends early when the daemon stops. JobNotFound is raised at once, not on the first step.
        """
        return _follow(self._entry(job_id))

    async def cancel(self, job_id: str) -> Job:
        """Stop a job and return its final snapshot; a finished one stays as it is."""
        entry = self._entry(job_id)
        entry.cancel_wanted = True
        if entry.accepted is not None:
            await asyncio.shield(entry.accepted)
        if entry in self._waiting:
            self._waiting.remove(entry)
            entry.supervisor = asyncio.create_task(self._finish(entry, "cancelled", None, {}))
            self._fill()
        if entry.work is not None:
            entry.work.cancel()
        if entry.supervisor is not None:
            await asyncio.shield(entry.supervisor)
        return entry.job

    async def aclose(self) -> None:
        """Interrupt what runs, leaving it on disk for the next process to go on with; all followers' iterations end."""
        self._closing = True
        self._waiting.clear()
        for entry in self._running:
            if entry.work is not None:
                entry.work.cancel()
        entries = tuple(self._entries.values())
        for kind in ("accepted", "supervisor", "saver"):
            tasks = [task for entry in entries if (task := getattr(entry, kind)) is not None]
            await asyncio.gather(*tasks, return_exceptions=True)
        for entry in entries:
            entry.changed.set()

    def _entry(self, job_id: str) -> _Entry:
        try:
            return self._entries[job_id]
        except KeyError:
            raise JobNotFound(f"there is no job {job_id}", hint="finished jobs are forgotten after a while") from None

    def _same(self, kind: str, key: str | None) -> _Entry | None:
        for entry in self._entries.values():
            alive = not (entry.job.finished or entry.cancel_wanted)
            if alive and key is not None and (entry.job.kind, entry.key) == (kind, key):
                return entry
        return None

    async def _accept(self, entry: _Entry) -> None:
        try:
            await asyncio.to_thread(self._store.save_job, to_stored(entry.job, entry.request, entry.key))
        except BaseException:
            del self._entries[entry.job.id]
            raise
        self._waiting.append(entry)
        self._fill()

    def _fill(self) -> None:
        """Begin what may run now, and tell the others what number they are."""
        if self._closing:
            return
        running = Counter(entry.job.kind for entry in self._running)
        waiting: Counter[str] = Counter()
        for entry in tuple(self._waiting):
            kind = entry.job.kind
            if running[kind] < self._limits.get(kind, self._limit):
                running[kind] += 1
                self._waiting.remove(entry)
                self._running.add(entry)
                entry.supervisor = asyncio.create_task(self._supervise(entry), name=f"supervise {entry.job.id}")
                continue
            waiting[kind] += 1
            if entry.job.position != waiting[kind]:
                _show(entry, replace(entry.job, position=waiting[kind]))

    async def _supervise(self, entry: _Entry) -> None:
        try:
            self._publish(entry, state="running", message=None, position=None)
            entry.work = asyncio.create_task(self._work(entry), name=f"work of {entry.job.id}")
            if entry.cancel_wanted or self._closing:
                entry.work.cancel()
            await asyncio.wait([entry.work])
            if entry.cancel_wanted or not self._is_interrupted(entry.work):
                await self._finish(entry, *_outcome(entry, entry.work))
        finally:
            self._running.discard(entry)
            self._fill()
        await self._prune()

    def _is_interrupted(self, work: asyncio.Task[Mapping[str, Any]]) -> bool:
        """Whether the end of the process, not of the work, ended it: such a job stays on disk as it is."""
        if work.cancelled():
            return self._closing
        return isinstance(work.exception(), ShuttingDown)

    async def _work(self, entry: _Entry) -> Mapping[str, Any]:
        runner = self._runners.get(entry.job.kind)
        if runner is None:
            raise LilliputError(f"this daemon does no jobs of the kind {entry.job.kind!r}")
        publish = partial(self._publish, entry)
        return await runner(JobHandle(entry.request, lambda: entry.job, publish, self._clock.monotonic))

    async def _finish(self, entry: _Entry, state: JobState, error: JobError | None, result: Mapping[str, Any]) -> None:
        if entry.saver is not None:
            await asyncio.wait([entry.saver])  # an older snapshot must not be written after this one
        job = replace(
            entry.job,
            state=state,
            error=error,
            result={**entry.job.result, **result},
            updated_at=self._clock.wall(),
            rate_bytes_s=None,
            eta_s=None,
            position=None,
        )
        if state == "done":
            job = replace(job, phase="done", file=None, digest=None)
        await self._save(entry, job)
        _show(entry, job)

    def _publish(self, entry: _Entry, **changes: Any) -> None:
        """Show a new snapshot at once; save it at once when state or result changed, else before long."""
        _show(entry, replace(entry.job, updated_at=self._clock.wall(), **changes))
        now_s = self._clock.monotonic()
        if changes.keys() & {"state", "result"} or now_s - entry.saved_at_s >= SAVE_EVERY_S:
            entry.saved_at_s = now_s
            entry.unsaved = True
            if entry.saver is None or entry.saver.done():
                entry.saver = asyncio.create_task(self._keep_saved(entry), name=f"save {entry.job.id}")

    async def _keep_saved(self, entry: _Entry) -> None:
        while entry.unsaved:
            entry.unsaved = False
            await self._save(entry, entry.job)

    async def _save(self, entry: _Entry, job: Job) -> None:
        try:
            await asyncio.to_thread(self._store.save_job, to_stored(job, entry.request, entry.key))
        except Exception:  # the work is done (or not) all the same: a full disk must not hide that from those who wait
            log.exception("job %s could not be saved", job.id)

    async def _prune(self) -> None:
        """Forget finished jobs beyond the newest KEEP_FINISHED and those older than KEEP_FINISHED_S."""
        oldest = self._clock.wall() - KEEP_FINISHED_S
        finished = sorted((job for job in self.list() if job.finished), key=lambda job: job.updated_at, reverse=True)
        stale = [job.id for rank, job in enumerate(finished) if rank >= KEEP_FINISHED or job.updated_at < oldest]
        for job_id in stale:
            del self._entries[job_id]
        if stale:
            try:
                await asyncio.to_thread(self._store.delete_jobs, stale)
            except LilliputError as error:
                log.warning("old jobs could not be forgotten: %s", error.message)


def _show(entry: _Entry, job: Job) -> None:
    entry.job = job
    changed, entry.changed = entry.changed, asyncio.Event()
    changed.set()


async def _follow(entry: _Entry) -> AsyncIterator[Job]:
    while True:
        job, changed = entry.job, entry.changed
        yield job
        if job.finished:
            return
        await changed.wait()
        if entry.changed is changed:  # woken, but not by a newer snapshot: the owner closes
            return


def _outcome(
    entry: _Entry, work: asyncio.Task[Mapping[str, Any]]
) -> tuple[JobState, JobError | None, Mapping[str, Any]]:
    if work.cancelled():
        if entry.cancel_wanted:
            return "cancelled", None, {}
        return "failed", JobError(LilliputError.code, "the work stopped by itself"), {}
    error = work.exception()
    if error is None:
        return "done", None, work.result()
    if isinstance(error, Cancelled):
        return "cancelled", JobError.of(error), {}
    if not isinstance(error, LilliputError):
        log.error("job %s (%s %s) failed", entry.job.id, entry.job.kind, entry.job.model, exc_info=error)
    return "failed", JobError.of(error), {}
