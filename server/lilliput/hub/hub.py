"""The Hub as the rest of the daemon uses it: repositories, headers and downloads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from lilliput.errors import HubUnreachable
from lilliput.gguf import FileSource, Header
from lilliput.gguf import read_header as parse_header
from lilliput.hub.cache import Cache
from lilliput.hub.flights import Flights
from lilliput.hub.greeting import HubAnswer, greet
from lilliput.hub.leftovers import CacheEntry, Leftovers
from lilliput.hub.library import Library
from lilliput.hub.names import check_repo_id, check_revision
from lilliput.hub.patience import OnWait, Patience
from lilliput.hub.peek import read_remote_header
from lilliput.hub.records import DownloadProgress, RemoteFile, Repository
from lilliput.hub.remote import RemoteBytes
from lilliput.hub.storage import DiskSpace
from lilliput.hub.threads import detached, finished
from lilliput.hub.transfer import OnProgress, Transfer
from lilliput.units import MIB

if TYPE_CHECKING:
    import httpx2


class Hub:
    """A Hugging Face Hub and the local cache of its files.

    ``endpoint``, ``token`` and ``cache_dir`` default to what huggingface_hub finds: HF_ENDPOINT, HF_TOKEN or the token
    file, HF_HUB_CACHE or HF_HOME. ``reserve_bytes`` of the disk stay free. Lives in one event loop until ``aclose``.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        token: str | None = None,
        cache_dir: Path | None = None,
        *,
        patience: Patience | None = None,
        reserve_bytes: int = 64 * MIB,
    ) -> None:
        self._library = Library(endpoint, token, cache_dir)
        self._cache = Cache(self._library.cache_dir)
        self._leftovers = Leftovers(self._cache.root)
        self._patience = patience or Patience()
        self._space = DiskSpace(self._cache.root, reserve_bytes)
        self._flights = Flights()
        self._client: httpx2.AsyncClient | None = None
        self._client_lock = asyncio.Lock()

    @property
    def endpoint(self) -> str:
        """The Hub's origin."""
        return self._library.endpoint

    @property
    def cache_dir(self) -> Path:
        """The root of the Hugging Face cache."""
        return self._cache.root

    async def repository(
        self, repo_id: str, revision: str = "main", *, on_wait: OnWait | None = None, brief: bool = False
    ) -> Repository:
        """A repository with its files, sizes and digests, pinned to a commit; ``on_wait`` hears of pauses.

        ``brief``: asked once and for a few seconds only, by one who can go on without.
        Raises ``BadName``, ``RepositoryNotFound``, ``VariantNotFound`` (no such revision), ``GatedRepository``,
        ``BadToken``, ``AccessDenied``, ``RateLimited``, ``HubUnreachable`` or ``HubError``.
        """
        check_repo_id(repo_id)
        check_revision(revision)

        patience = self._patience.brief if brief else self._patience

        async def ask() -> Repository:
            return await detached(self._library.repository, repo_id, revision, patience.metadata_timeout_s)

        if not brief:
            return await patience.persist(ask, on_wait=on_wait)
        try:
            async with asyncio.timeout(patience.metadata_timeout_s):  # a silent name server counts, too
                return await patience.persist(ask, on_wait=on_wait)
        except TimeoutError:
            raise HubUnreachable(f"{self.endpoint} did not answer in {patience.metadata_timeout_s:g} s") from None

    async def read_header(self, repository: Repository, path: str, *, on_wait: OnWait | None = None) -> Header:
        """The GGUF header of a file: from the cache, else by ranges, fetching little more than the header.

        Raises ``BadFile`` for a file that is not sound, and the errors of ``repository``.
        """
        file = repository.file(path)
        local = await finished(self._cache.installed, repository, file)
        if local is not None:
            return await asyncio.to_thread(_parse_file, local)
        remote = await self._remote(repository, file)
        return await read_remote_header(remote, file, f"{repository.repo_id}/{path}", self._patience, on_wait)

    async def download(self, repository: Repository, file: RemoteFile, on_progress: OnProgress | None = None) -> Path:
        """Have ``file`` in the cache, complete and checked; its path there, with its own name.

        ``on_progress`` is called in the event loop, must be quick and must not raise. Those who ask for one file at
        the same time share one download. A cancel takes effect at once and keeps what was fetched, and so does a kill.
        Raises ``DiskFull``, ``ChecksumMismatch``, ``StorageError`` and the errors of ``repository``.
        """
        tell = on_progress or _ignore
        last = DownloadProgress("checking", 0, file.size_bytes)

        def note(progress: DownloadProgress) -> None:
            nonlocal last
            last = progress
            tell(progress)

        async def start(report: OnProgress) -> None:
            remote = await self._remote(repository, file)
            await Transfer(self._cache, self._space, self._patience, remote, repository, file, report).run()

        await self._flights.join(self._cache.blob(repository, file), start, note)
        path = await finished(self._cache.link, repository, file)
        tell(DownloadProgress("done", file.size_bytes, file.size_bytes, resumed_bytes=last.resumed_bytes))
        return path

    def cached(self, repository: Repository, file: RemoteFile) -> Path | None:
        """The path of ``file`` in the cache if it has the right size (the digest is not checked), else None."""
        return self._cache.installed(repository, file)

    async def check_space(self, repository: Repository, files: Iterable[RemoteFile]) -> None:
        """Raise ``DiskFull`` unless all that is still to be fetched of ``files`` fits on the disk."""
        need_bytes = await finished(self._cache.missing_bytes, repository, tuple(files))
        self._space.check(need_bytes)

    async def remove(self, path: Path) -> int:
        """Remove what ``download`` returned, its content too unless another snapshot needs it; the bytes set free.

        A path outside the cache's snapshots is left alone (0). Raises ``StorageError``.
        """
        return await finished(self._cache.remove, path)

    async def leftovers(self) -> tuple[CacheEntry, ...]:
        """What lies in the cache and may be needed or not: blobs, parts, broken links. Raises ``StorageError``."""
        return await finished(self._leftovers.list)

    async def discard(self, entry: CacheEntry) -> int | None:
        """Remove one of the ``leftovers``; the bytes set free, None when it is at work or not as it was listed.

        Raises ``StorageError``.
        """
        return await finished(self._leftovers.remove, entry)

    async def greet(self, timeout_s: float) -> HubAnswer:
        """Ask the Hub who we are: whether it answers, takes the token, and what time it has there. Does not raise."""
        return await greet(self._library, timeout_s)

    async def warm_up(self) -> None:
        """Load the library ahead of the first call, so that no call holds up others by it."""
        await asyncio.to_thread(self._library.load)

    async def aclose(self) -> None:
        """Stop all downloads, keeping what they fetched, and close connections."""
        await self._flights.aclose()
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _remote(self, repository: Repository, file: RemoteFile) -> RemoteBytes:
        async with self._client_lock:
            if self._client is None:
                self._client = await finished(self._library.client)  # reads certificates: not in the event loop
        return RemoteBytes(self._library, self._client, self._patience, repository, file)


def _ignore(_progress: DownloadProgress) -> None:
    """Nobody listens."""


def _parse_file(path: Path) -> Header:
    with FileSource(path) as source:
        return parse_header(source)
