"""What a pull is to bring, and bringing it: all files of one variant, told as one progress."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lilliput.gguf import Variant
from lilliput.hub import DownloadProgress, OnProgress, OnWait, Phase, RemoteFile, Repository
from lilliput.pool import Terms
from lilliput.services.job_handle import JobHandle
from lilliput.units import format_bytes


class HubClient(Protocol):
    """The Hub, as far as a pull needs it."""

    async def repository(self, repo_id: str, revision: str = "main", *, on_wait: OnWait | None = None) -> Repository:
        """A repository pinned to a commit."""
        ...

    def cached(self, repository: Repository, file: RemoteFile) -> Path | None:
        """The path of a file that is here already, else None."""
        ...

    async def check_space(self, repository: Repository, files: Iterable[RemoteFile]) -> None:
        """DiskFull unless what is missing of ``files`` fits on the disk."""
        ...

    async def download(self, repository: Repository, file: RemoteFile, on_progress: OnProgress | None = None) -> Path:
        """Have a file in the cache, verified; resumes what was fetched before."""
        ...


@dataclass(frozen=True, slots=True)
class Order:
    """Exactly what a pull is to bring: ``variant`` of ``repository``, to be called ``name``.

    It is loaded on ``terms`` from then on. ``setting`` is how it would be loaded now, None when that was not looked at;
    ``context_tokens`` what these terms make of the context, None for the usual.
    """

    repository: Repository
    variant: Variant
    name: str
    reason: str
    terms: Terms
    setting: Mapping[str, Any] | None = None
    context_tokens: int | None = None

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        """The files, in load order."""
        return tuple(self.repository.file(path) for path in self.variant.paths)

    def told(self) -> dict[str, Any]:
        """The order as the job's result has it: plain JSON values."""
        return {
            "name": self.name,
            "quantization": self.variant.quantization,
            "repo": self.repository.repo_id,
            "revision": self.repository.revision,
            "files": [{"path": f.path, "size_bytes": f.size_bytes, "sha256": f.sha256} for f in self.files],
            "size_bytes": self.variant.size_bytes,
            "reason": self.reason,
            "setting": self.setting,
            "context_tokens": self.context_tokens,
        }


class Download:
    """All files of an order, one after the other, told as one progress."""

    def __init__(self, hub: HubClient, order: Order, handle: JobHandle) -> None:
        self._hub = hub
        self._order = order
        self._handle = handle
        self._before_bytes = 0  # size of the files that are done
        self._skipped_bytes = 0  # how much of those was there before

    async def run(self) -> list[Path]:
        """The files' paths in the cache, in load order; errors are the Hub's."""
        order = self._order
        self._handle.progress(self._handle.job.completed_bytes or 0, order.variant.size_bytes)
        await self._hub.check_space(order.repository, order.files)
        paths = []
        for file in order.files:
            self._handle.work_on(file.path, f"sha256:{file.sha256}" if file.sha256 is not None else None)
            paths.append(await self._one(file))
        return paths

    async def _one(self, file: RemoteFile) -> Path:
        there_bytes = file.size_bytes  # until a byte is fetched, all of it counts as there before

        def tell(progress: DownloadProgress) -> None:
            nonlocal there_bytes
            if progress.phase == "downloading":
                there_bytes = progress.resumed_bytes
            self._tell(file, progress, there_bytes)

        path = await self._hub.download(self._order.repository, file, tell)
        self._before_bytes += file.size_bytes
        self._skipped_bytes += there_bytes
        return path

    def _tell(self, file: RemoteFile, progress: DownloadProgress, there_bytes: int) -> None:
        if progress.phase != "done":
            self._handle.enter(progress.phase, progress.message or self._message(file, progress.phase))
        if progress.phase in ("downloading", "done"):
            self._handle.progress(
                self._before_bytes + progress.completed_bytes,
                self._order.variant.size_bytes,
                skipped_bytes=self._skipped_bytes + there_bytes,
            )

    def _message(self, file: RemoteFile, phase: Phase) -> str:
        if phase in ("checking", "verifying"):
            return f"{phase} {file.path}"
        variant = self._order.variant
        return f"{variant.quantization or variant.paths[0]} ({format_bytes(variant.size_bytes)}): {self._order.reason}"
