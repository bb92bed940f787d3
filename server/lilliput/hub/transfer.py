"""Bring one blob into the cache: use what is there, else fetch the rest, check it, and move it into place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import filelock

from lilliput.errors import ChecksumMismatch, HubError
from lilliput.hub.cache import Cache
from lilliput.hub.part import HASH_STEP_BYTES, Part, new_digest
from lilliput.hub.patience import Patience, Transient
from lilliput.hub.records import DownloadProgress, Phase, RemoteFile, Repository
from lilliput.hub.remote import Body, RemoteBytes
from lilliput.hub.storage import DiskSpace, storage_faults
from lilliput.hub.threads import finished
from lilliput.units import MIB, format_bytes

OnProgress = Callable[[DownloadProgress], None]

_BATCH_BYTES = MIB
_BATCH_S = 0.25


class Transfer:
    """One download of one blob. ``run`` is called once; a cancel leaves the part for the next run."""

    def __init__(
        self,
        cache: Cache,
        space: DiskSpace,
        patience: Patience,
        remote: RemoteBytes,
        repository: Repository,
        file: RemoteFile,
        on_progress: OnProgress,
    ) -> None:
        self._cache = cache
        self._space = space
        self._patience = patience
        self._remote = remote
        self._repository = repository
        self._file = file
        self._on_progress = on_progress
        self._what = f"{repository.repo_id}/{file.path}"
        self._part = Part(cache.part(repository, file), file)
        self._resumed_bytes = 0

    async def run(self) -> None:
        """Have the blob in the cache, sound. Raises the errors of ``Hub.download``."""
        self._report("checking", 0)
        async with self._locked():
            content = await finished(self._cache.content, self._repository, self._file)
            if content is not None and await self._is_sound(content):
                return
            try:
                await self._fetch()
            finally:
                await finished(self._part.close)

    async def _fetch(self) -> None:
        await finished(self._part.open)
        await self._hash_part()
        await self._fill()
        if not self._part.is_sound and self._resumed_bytes:
            # The fault may lie in what an earlier run left (a power cut, a disk): one clean start tells.
            await self._restart()
            await self._fill()
        self._report("verifying", self._file.size_bytes)
        if not self._part.is_sound:
            await finished(self._part.discard)
            raise self._mismatch("their digest is another one")
        await finished(self._part.finish, self._cache.blob(self._repository, self._file))

    async def _hash_part(self) -> None:
        while self._part.hashed_bytes < self._part.size_bytes:
            self._report("checking", self._part.hashed_bytes, "checking what an earlier run fetched")
            await finished(self._part.hash_step)
        self._resumed_bytes = self._part.size_bytes

    async def _fill(self) -> None:
        with self._space.claimed(lambda: self._part.remaining_bytes):
            self._report("downloading", self._part.size_bytes)
            if self._part.remaining_bytes > 0:
                await self._patience.persist(
                    self._attempt,
                    on_wait=lambda message, _wait_s: self._report("waiting", self._part.size_bytes, message),
                    reached_bytes=lambda: self._part.size_bytes,
                )

    async def _attempt(self) -> None:
        async with self._remote.open(self._part.size_bytes) as body:
            if body.start != self._part.size_bytes:
                await self._restart()
            await self._drain(body)
        if self._part.remaining_bytes > 0:
            raise Transient(HubError(f"the connection ended inside {self._what}"))

    async def _drain(self, body: Body) -> None:
        """Write all of ``body``, in batches; what was received before a fault or a cancel is written too."""
        loop = asyncio.get_running_loop()
        batch = bytearray()
        written_at_s = loop.time()
        try:
            async for chunk in body.chunks:
                batch += chunk
                if len(batch) > self._part.remaining_bytes:
                    batch.clear()
                    await finished(self._part.discard)
                    raise self._mismatch("there are more of them")
                if len(batch) >= _BATCH_BYTES or loop.time() - written_at_s >= _BATCH_S:
                    await self._write(batch)
                    written_at_s = loop.time()
        finally:
            if batch:
                await self._write(batch)

    async def _write(self, batch: bytearray) -> None:
        data = bytes(batch)
        batch.clear()
        await finished(self._part.append, data)
        self._report("downloading", self._part.size_bytes)

    async def _restart(self) -> None:
        await finished(self._part.restart)
        self._resumed_bytes = 0

    async def _is_sound(self, content: Path) -> bool:
        """Whether content that another tool or an earlier run left has the announced digest."""
        digest = new_digest(self._file)
        hashed_bytes = 0
        with storage_faults(content):
            stream = await finished(content.open, "rb")
            try:
                while block := await finished(stream.read, HASH_STEP_BYTES):
                    await finished(digest.update, block)
                    hashed_bytes += len(block)
                    self._report("verifying", hashed_bytes, "checking the file that is already in the cache")
            finally:
                stream.close()
        return digest.hexdigest() == self._file.digest

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        path = self._cache.lock(self._repository, self._file)
        with storage_faults(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path, thread_local=False, mode=0o664)
        with storage_faults(path):
            while True:
                try:
                    lock.acquire(blocking=False)
                    break
                except filelock.Timeout:
                    self._report("waiting", 0, "another process is fetching the same file")
                await asyncio.sleep(self._patience.lock_poll_s)
        try:
            yield
        finally:
            lock.release()

    def _mismatch(self, fault: str) -> ChecksumMismatch:
        size = format_bytes(self._file.size_bytes)
        return ChecksumMismatch(
            f"the bytes of {self._what} are not those the Hub announced ({size}, {self._file.digest[:12]}…): {fault}",
            hint="they were thrown away; pull again, and if it stays, the connection or the repository is damaged",
        )

    def _report(self, phase: Phase, completed_bytes: int, message: str | None = None) -> None:
        total_bytes, resumed_bytes = self._file.size_bytes, self._resumed_bytes
        self._on_progress(DownloadProgress(phase, completed_bytes, total_bytes, message, resumed_bytes))
