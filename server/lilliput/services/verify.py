"""Verify installed models: hash their files again and compare with what was recorded, as a job."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from lilliput.catalogue import InstalledFile, InstalledModel
from lilliput.hub import path_in_repository
from lilliput.services.agreements import Facts
from lilliput.services.damage import note_damage
from lilliput.services.file_checks import BAD, FileCheck, check_file
from lilliput.services.hub_answers import HubAnswer, HubListing, ask_hub
from lilliput.services.job_handle import JobHandle
from lilliput.services.job_records import Job
from lilliput.services.jobs import Jobs
from lilliput.units import counted

KIND = "verify"


class Registry(Facts, Protocol):
    """Where installed models are kept; calls may block and are made in threads."""

    def get(self, name: str) -> InstalledModel | None:
        """The model of exactly this name."""
        ...


class Selector(Protocol):
    """Finds installed models by what people call them."""

    async def select(self, names: Sequence[str]) -> tuple[InstalledModel, ...]:
        """The models that names mean, all without names; ModelNotFound."""
        ...


@dataclass(frozen=True, slots=True)
class FileReport:
    """One file of one model: what was found, what the Hub says of it (``hub``: same, differs, gone or unknown, None
    where it was not asked), and what to do about it.
    """

    model: str
    path: str
    size_bytes: int
    check: FileCheck
    hub: str | None = None
    hub_reason: str | None = None
    remedy: str | None = None

    @property
    def bad(self) -> bool:
        """Whether something must be done about it."""
        return self.check.state in BAD or self.hub == "differs"

    def to_json(self) -> dict[str, Any]:
        """Flat, of plain values."""
        told = asdict(self)
        return {**{name: told[name] for name in ("model", "path", "size_bytes")}, **told.pop("check"), **told}


class Verifications:
    """Starts verifications and does their work as jobs of the kind ``verify``.

    Phases: ``hashing``, then ``asking`` where the Hub is to be asked, and ``done``. The result has ``files``, which
    fills up while the job runs, and at the end the numbers ``checked`` and ``damaged``. After a restart the job goes on
    with the file it was at. Nothing is removed; a model found damaged is fetched anew by its next pull.
    """

    def __init__(self, jobs: Jobs, registry: Registry, models: Selector, hub: HubListing) -> None:
        self._jobs = jobs
        self._registry = registry
        self._models = models
        self._hub = hub
        jobs.register(KIND, self._run)

    async def start(self, names: Sequence[str] = (), *, hub: bool = False) -> Job:
        """Start to verify models, all without names; the same question while its answer is made is the same job.

        Raises BadName, ModelNotFound, ShuttingDown, StorageError.
        """
        chosen = [model.name for model in await self._models.select(names)]
        shown = ", ".join(chosen) if names else "all models"
        request = {"models": chosen, "hub": hub}
        return await self._jobs.submit(KIND, shown, request, key=json.dumps(request))

    async def _run(self, handle: JobHandle) -> Mapping[str, Any]:
        models = [
            model
            for name in handle.request["models"]
            if (model := await asyncio.to_thread(self._registry.get, name)) is not None
        ]
        reports = await _Hashing(handle, self._registry, models).run()
        if handle.request["hub"]:
            handle.work_on(None)
            handle.enter("asking", "asking the Hub what it says of these files")
            reports = await self._compared(models, reports)
        for model in models:
            bad = any(report.bad for report in reports if report.model == model.name)
            await asyncio.to_thread(note_damage, self._registry, model.name, damaged=bad)
        damaged = sum(report.bad for report in reports)
        handle.say(f"{damaged} of {counted(len(reports), 'file')} damaged" if damaged else "all files are sound")
        return {
            "files": [report.to_json() for report in reports],
            "checked": len(reports),
            "damaged": damaged,
        }

    async def _compared(self, models: Sequence[InstalledModel], reports: Sequence[FileReport]) -> list[FileReport]:
        places = {model.name: (model.repo, model.revision) for model in models if model.repo and model.revision}
        answers = await ask_hub(self._hub, [(repo, revision) for repo, revision in places.values()])
        files = {(model.name, str(file.path)): file for model in models for file in model.files}
        compared = []
        for report in reports:
            place = places.get(report.model)
            file = files[report.model, report.path]
            compared.append(report if place is None else _with_answer(report, file, answers[place]))
        return compared


class _Hashing:
    """The reading of all files, told as one progress; what a former process had done of it is not done again."""

    def __init__(self, handle: JobHandle, facts: Facts, models: Sequence[InstalledModel]) -> None:
        self._handle = handle
        self._facts = facts
        self._files = [(model, file) for model in models for file in model.files]
        self._done = {(one["model"], one["path"]): one for one in handle.job.result.get("files", ())}
        self._total_bytes = sum(file.size_bytes for _, file in self._files)
        self._before_bytes = 0
        self._skipped_bytes = 0

    async def run(self) -> list[FileReport]:
        """A report of each file, in the order of the models and their files."""
        self._handle.progress(0, self._total_bytes)
        reports: list[FileReport] = []
        known: dict[str, FileCheck] = {}
        for model, file in self._files:
            real = await asyncio.to_thread(os.path.realpath, file.path)
            identity = f"{real}|{file.size_bytes}|{file.sha256}"
            check = self._kept(model, file) or known.get(identity)
            if check is None:
                check = await self._check(file)
            else:
                self._skipped_bytes += file.size_bytes
            known[identity] = check
            self._before_bytes += file.size_bytes
            self._tell(0)
            reports.append(_report(model, file, check))
            self._handle.note(files=[report.to_json() for report in reports])
        return reports

    def _kept(self, model: InstalledModel, file: InstalledFile) -> FileCheck | None:
        """What was found before a restart."""
        found = self._done.get((model.name, str(file.path)))
        if found is None or found["size_bytes"] != file.size_bytes:
            return None
        return FileCheck(**{name: found[name] for name in FileCheck.__slots__})

    async def _check(self, file: InstalledFile) -> FileCheck:
        self._handle.work_on(str(file.path), f"sha256:{file.sha256}" if file.sha256 is not None else None)
        self._handle.enter("hashing")
        read_bytes = 0

        def on_bytes(count: int) -> None:
            nonlocal read_bytes
            read_bytes += count
            self._tell(min(read_bytes, file.size_bytes))

        return await check_file(self._facts, file, on_bytes)

    def _tell(self, read_bytes: int) -> None:
        self._handle.progress(self._before_bytes + read_bytes, self._total_bytes, skipped_bytes=self._skipped_bytes)


def _report(model: InstalledModel, file: InstalledFile, check: FileCheck) -> FileReport:
    remedy = _remedy(model) if check.state in BAD else None
    return FileReport(model.name, str(file.path), file.size_bytes, check, remedy=remedy)


def _remedy(model: InstalledModel) -> str:
    if model.source == "hub":
        return f"lilliput pull {model.name}"
    if model.source == "embedded":
        return "install lilliput again: this file comes with it"
    return f"put the file back; or, if it is as you want it: lilliput pull {model.name}"


def _with_answer(report: FileReport, file: InstalledFile, answer: HubAnswer) -> FileReport:
    """The report with what the Hub says of the file at the revision that was installed."""
    if answer.repository is None:
        return replace(report, hub="gone" if answer.gone else "unknown", hub_reason=answer.reason)
    path = path_in_repository(file.path)
    there = next((one for one in answer.repository.files if one.path == path), None)
    if there is None:
        return replace(report, hub="gone", hub_reason=f"{answer.repository.repo_id} has no {path} at this revision")
    if (there.size_bytes, there.sha256) == (file.size_bytes, file.sha256):
        return replace(report, hub="same")
    reason = f"the Hub says {there.size_bytes} bytes, SHA-256 {there.sha256}"
    return replace(report, hub="differs", hub_reason=reason, remedy=f"lilliput pull {report.model}")
