"""Shared by the download tests: what a download said, and what it left on disk."""

from __future__ import annotations

import asyncio
from pathlib import Path

from lilliput.hub import DownloadProgress, Hub, RemoteFile, Repository


def everything_below(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.rglob("*") if path.is_file() and ".locks" not in path.parts)


class Listener:
    """Keeps progress, and lets a test wait for it."""

    def __init__(self) -> None:
        self.heard: list[DownloadProgress] = []
        self._changed = asyncio.Event()

    def __call__(self, progress: DownloadProgress) -> None:
        self.heard.append(progress)
        self._changed.set()

    async def until(self, phase: str, completed_bytes: int = 0) -> None:
        while not any(step.phase == phase and step.completed_bytes >= completed_bytes for step in self.heard):
            self._changed.clear()
            await self._changed.wait()

    @property
    def phases(self) -> list[str]:
        """Phases in order, repetitions left out."""
        phases = [step.phase for step in self.heard]
        return [phase for index, phase in enumerate(phases) if index == 0 or phases[index - 1] != phase]


async def big_of(hub: Hub) -> tuple[Repository, RemoteFile]:
    repository = await hub.repository("org/model")
    return repository, repository.file("big.gguf")
