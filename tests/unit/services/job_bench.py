"""Jobs under a clock that moves when told, over a disk in memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from lilliput.catalogue import StoredJob
from lilliput.services.job_handle import JobHandle
from lilliput.services.job_records import Job
from lilliput.services.jobs import Clock, Jobs


class MemoryStore:
    """What a disk would hold; ``fault`` is raised by writes."""

    def __init__(self) -> None:
        self.jobs: dict[str, StoredJob] = {}
        self.saves: list[StoredJob] = []
        self.fault: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()

    def save_job(self, job: StoredJob) -> None:
        self.gate.wait(10)
        if self.fault is not None:
            raise self.fault
        self.jobs[job.id] = job
        self.saves.append(job)

    def load_jobs(self) -> tuple[StoredJob, ...]:
        return tuple(sorted(self.jobs.values(), key=lambda job: job.created_at))

    def delete_jobs(self, ids: Iterable[str]) -> None:
        for job_id in ids:
            self.jobs.pop(job_id, None)


class Time:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """Jobs whose runner waits for the test: each run is announced in ``started`` and ends by its future."""

    def __init__(self, store: MemoryStore, limits: Mapping[str, int] | None = None, *, limit: int = 2) -> None:
        self.store = store
        self.time = Time()
        self.jobs = Jobs(store, limits or {}, limit=limit, clock=Clock(self.time, self.time))
        self.started: asyncio.Queue[str] = asyncio.Queue()
        self.handles: dict[str, JobHandle] = {}
        self.ends: dict[str, asyncio.Future[Mapping[str, Any]]] = {}
        self.jobs.register("pull", self.run)
        self.jobs.register("verify", self.run)

    async def run(self, handle: JobHandle) -> Mapping[str, Any]:
        name = handle.job.model
        self.handles[name] = handle
        self.ends[name] = asyncio.get_running_loop().create_future()
        self.started.put_nowait(name)
        return await self.ends[name]

    async def submit(self, name: str, key: str | None = None, *, kind: str = "pull") -> Job:
        self.time.now += 1
        return await self.jobs.submit(kind, name, {"model": name}, key=key)

    async def running(self, name: str) -> JobHandle:
        assert await asyncio.wait_for(self.started.get(), 5) == name
        return self.handles[name]

    async def finished(self, job: Job) -> Job:
        async with asyncio.timeout(5):
            return [seen async for seen in self.jobs.events(job.id)][-1]
