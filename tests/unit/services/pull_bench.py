"""Pulls over a real store, with fakes of the Hub and the planner."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.unit.services.gguf_files import tiny_gguf

from lilliput.catalogue import Families, InstalledModel, Store
from lilliput.errors import DoesNotFit
from lilliput.fit import Setting
from lilliput.gguf import Variant, group_variants
from lilliput.hub import DownloadProgress, OnProgress, OnWait, RemoteFile, Repository
from lilliput.pool import Terms
from lilliput.services.job_records import Job
from lilliput.services.jobs import Jobs
from lilliput.services.models import Models
from lilliput.services.pulls import Pulls

REPO = "org/Llama-3.1-8B-GGUF"
FAMILIES = f"""
["llama3.1"]
title = "Llama 3.1"
default = "8b"
sizes = {{"8b" = "{REPO}"}}
"""
FIRST, SECOND = "a" * 40, "b" * 40


@dataclass(frozen=True)
class FakePlanned:
    context_tokens: int = 8192


@dataclass(frozen=True)
class FakeChosen:
    variant: Variant
    reason: str
    setting: Setting | None = None
    plan: FakePlanned = FakePlanned()


class FakeChooser:
    """Takes the biggest of what is asked for, or refuses."""

    def __init__(self) -> None:
        self.asked: list[tuple[str | None, str | None, Terms]] = []
        self.fits = True

    async def choose(
        self,
        repository: Repository,
        quantization: str | None = None,
        *,
        file: str | None = None,
        terms: Terms,
        on_wait: OnWait | None = None,
    ) -> FakeChosen:
        self.asked.append((quantization, file, terms))
        if not self.fits and not terms.forced:
            raise DoesNotFit("nothing fits", need_bytes=10, budget_bytes=5, hint="take a smaller model")
        variants = group_variants((one.path, one.size_bytes) for one in repository.files)
        wanted = (one for one in variants if quantization in (None, one.quantization))
        context = terms.context_tokens or (16384 if terms.use_case else 8192)
        setting = Setting(context, 8, "q8_0")
        return FakeChosen(next(wanted), "the best that fits", setting, FakePlanned(context))


class FakeHub:
    """A repository of real files; a download copies a file, slowly enough to be watched when ``gate`` is closed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.revision = FIRST
        self.contents: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        self.downloads: list[str] = []
        self.fault: Exception | None = None
        self.space_fault: Exception | None = None
        self.resumed_bytes = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.reached = asyncio.Event()

    def add(self, path: str, content: bytes | None = None) -> None:
        self.contents[path] = tiny_gguf() if content is None else content

    async def repository(self, repo_id: str, revision: str = "main", *, on_wait: OnWait | None = None) -> Repository:
        self.asked.append((repo_id, revision))
        if on_wait is not None:
            on_wait("the Hub asks to slow down; trying again in 2 s", 2.0)  # as the real one words it
        files = tuple(
            RemoteFile(path, len(content), sha256=hashlib.sha256(content).hexdigest())
            for path, content in self.contents.items()
        )
        return Repository(REPO, self.revision if revision == "main" else revision, files, license="llama3.1")

    def cached(self, repository: Repository, file: RemoteFile) -> Path | None:
        path = self.directory / repository.revision / file.path
        return path if path.is_file() else None

    async def check_space(self, repository: Repository, files: Iterable[RemoteFile]) -> None:
        if self.space_fault is not None:
            raise self.space_fault

    async def download(self, repository: Repository, file: RemoteFile, on_progress: OnProgress | None = None) -> Path:
        assert on_progress is not None
        self.downloads.append(file.path)
        size, resumed = file.size_bytes, self.resumed_bytes
        on_progress(DownloadProgress("checking", 0, size))
        on_progress(DownloadProgress("downloading", size // 2, size, resumed_bytes=resumed))
        self.reached.set()
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        on_progress(DownloadProgress("verifying", size, size, resumed_bytes=resumed))
        path = self.directory / repository.revision / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.contents[file.path])
        on_progress(DownloadProgress("done", size, size, resumed_bytes=resumed))
        return path


class Bench:
    """Pulls over a real store and fakes of the Hub and the planner."""

    def __init__(self, directory: Path) -> None:
        self.store = Store(directory / "data")
        self.store.open()
        families = directory / "families.toml"
        families.write_text(FAMILIES)
        self.hub = FakeHub(directory / "cache")
        self.chooser = FakeChooser()
        self.families = Families.load([families])
        self.removable = False
        self.build()

    def build(self) -> None:
        """A new daemon over what is on disk."""
        self.jobs = Jobs(self.store)
        self.models = Models(self.store, self.families, self.remove)
        self.pulls = Pulls(
            self.jobs, self.store, self.hub, self.chooser, self.families, self.models, clock=lambda: 1000.0
        )

    async def remove(self, path: Path) -> int:
        assert self.removable, f"{path} must stay"
        return 0

    async def end(self, job: Job) -> Job:
        async with asyncio.timeout(10):
            return [seen async for seen in self.jobs.events(job.id)][-1]

    async def pull(self, model: str, **options: object) -> Job:
        return await self.end(await self.pulls.start(model, **options))  # type: ignore[arg-type]

    def model(self, name: str) -> InstalledModel:
        model = self.store.get(name)
        assert model is not None
        return model
