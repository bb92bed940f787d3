"""Find and remove what nobody needs: the doing to ``garbage``'s deciding."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lilliput.catalogue import InstalledModel
from lilliput.hub import CacheEntry
from lilliput.services.fetched import FindFacts, WriteFact, all_fetched, forget_fetched
from lilliput.services.garbage import WEEK_S, Found, Judged, Kind, Needs, Verdict, is_at_work, judge
from lilliput.services.job_records import Job
from lilliput.services.own_files import OwnFiles


class Registry(FindFacts, WriteFact, Protocol):
    """Where installed models are kept; calls may block and are made in threads."""

    def installed(self) -> tuple[InstalledModel, ...]:
        """All installed models."""
        ...


class HubCache(Protocol):
    """The Hub's cache on this disk."""

    async def leftovers(self) -> tuple[CacheEntry, ...]:
        """What lies in it and may be needed or not."""
        ...

    async def discard(self, entry: CacheEntry) -> int | None:
        """Remove one; the bytes set free, None when it is at work or not as it was."""
        ...


class JobList(Protocol):
    """The jobs."""

    def list(self) -> tuple[Job, ...]:
        """All of them."""
        ...


@dataclass(frozen=True, slots=True)
class Pruned:
    """What is gone, and what is not and why."""

    removed: tuple[Judged, ...]
    skipped: tuple[Judged, ...]
    freed_bytes: int


class Garbage:
    """Owner of pruning, one at a time; used from one event loop."""

    def __init__(
        self,
        registry: Registry,
        jobs: JobList,
        cache: HubCache,
        own: OwnFiles,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._registry = registry
        self._jobs = jobs
        self._cache = cache
        self._own = own
        self._clock = clock
        self._turn = asyncio.Lock()

    async def find(self, older_than_s: float = WEEK_S) -> Verdict:
        """What may go now, and what would if it were older. Raises StorageError."""
        verdict, _ = await self._look(older_than_s)
        return verdict

    async def prune(self, older_than_s: float = WEEK_S, paths: Collection[str] | None = None) -> Pruned:
        """Remove what may go now, of ``paths`` only where they are given; each file is looked at again before.

        A cancel or a kill leaves the rest for the next time. Raises StorageError, after which the rest is left, too.
        """
        async with self._turn:
            verdict, entries = await self._look(older_than_s)
            removed: list[Judged] = []
            skipped: list[Judged] = []
            freed_bytes = 0
            for judged in verdict.garbage:
                if paths is not None and str(judged.found.path) not in paths:
                    continue
                freed = await self._remove(judged.found, entries)
                if freed is None:
                    skipped.append(Judged(judged.found, judged.age_s, "somebody uses it or has changed it meanwhile"))
                else:
                    removed.append(judged)
                    freed_bytes += freed
            return Pruned(tuple(removed), tuple(skipped), freed_bytes)

    async def _look(self, older_than_s: float) -> tuple[Verdict, Mapping[Path, CacheEntry]]:
        entries = {entry.path: entry for entry in await self._cache.leftovers()}
        listed = await asyncio.to_thread(self._listed, tuple(entries.values()))
        used = await asyncio.to_thread(self._used)
        needs = self._needs(used)  # last: a job that began meanwhile has its say
        return judge(listed, needs, now=self._clock(), older_than_s=older_than_s), entries

    def _listed(self, entries: Sequence[CacheEntry]) -> list[Found]:
        """All that may be garbage; complete contents of the shared cache only where they were fetched from here."""
        fetched = all_fetched(self._registry)
        listed = [*self._own.list()]
        for entry in entries:
            noted = fetched.get((entry.repo_id, entry.digest or ""))
            if entry.kind != "blob":
                listed.append(_found(entry, entry.changed_at))
            elif noted is not None:
                listed.append(_found(entry, max(noted, entry.changed_at)))
        return listed

    def _used(self) -> frozenset[str]:
        """Paths of installed files, as they are written and where they lead, their folders and their digests."""
        names: set[str] = set()
        for model in self._registry.installed():
            for file in model.files:
                folder = os.path.realpath(file.path.parent)
                names |= {str(file.path), folder, str(Path(folder) / file.path.name), os.path.realpath(file.path)}
                names |= {file.sha256} if file.sha256 is not None else set()
        return frozenset(names)

    def _needs(self, used: frozenset[str]) -> Needs:
        unfinished = [job for job in self._jobs.list() if not job.finished]
        words = frozenset(word for job in unfinished for word in _words([job.model, job.file, job.result]))
        open_pulls = any(job.kind == "pull" and "files" not in job.result for job in unfinished)
        return Needs(used, words, open_pulls)

    async def _remove(self, found: Found, entries: Mapping[Path, CacheEntry]) -> int | None:
        used = await asyncio.to_thread(self._used)
        needs = self._needs(used)
        if found.names & used or is_at_work(found, needs):
            return None
        entry = entries.get(found.path)
        if entry is None:
            return await asyncio.to_thread(self._own.remove, found)
        freed_bytes = await self._cache.discard(entry)
        if freed_bytes is not None and entry.kind == "blob":
            await asyncio.to_thread(forget_fetched, self._registry, entry.repo_id, [entry.digest])
        return freed_bytes


def _found(entry: CacheEntry, changed_at: float) -> Found:
    names = {str(entry.path), entry.repo_id, *map(str, entry.pointers)} | (
        {entry.digest} if entry.digest is not None else set()
    )
    kind: Kind = "model" if entry.kind == "blob" else entry.kind
    return Found(entry.path, kind, entry.size_bytes, changed_at, frozenset(names))


def _words(value: object) -> set[str]:
    """All text inside plain values."""
    if isinstance(value, str):
        return {value}
    if isinstance(value, Mapping):
        return {word for item in value.values() for word in _words(item)}
    if isinstance(value, list | tuple):
        return {word for item in value for word in _words(item)}
    return set()
