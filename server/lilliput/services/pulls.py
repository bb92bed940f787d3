"""Pull a model: from a name to verified files on disk and a registered model, as a job."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import msgspec

from lilliput.catalogue import InstalledFile, InstalledModel
from lilliput.errors import BadFile
from lilliput.fit import Setting
from lilliput.gguf import Variant, group_variants
from lilliput.hub import OnWait, Repository
from lilliput.pool import NO_DRAFT, OPEN_TERMS, Terms
from lilliput.services.agreements import Facts, agree, on_terms
from lilliput.services.damage import is_damaged, note_damage
from lilliput.services.fetched import note_fetched
from lilliput.services.job_handle import JobHandle
from lilliput.services.job_records import Job
from lilliput.services.jobs import Jobs
from lilliput.services.local_files import FileFacts, inspect
from lilliput.services.orders import Download, HubClient, Order
from lilliput.services.plan_request import PlanRequest
from lilliput.services.targets import Families, Target, find_target, installed_name, matching

KIND = "pull"


class Planned(Protocol):
    """A plan, as far as a pull tells of it."""

    @property
    def context_tokens(self) -> int:
        """What was to be fitted."""
        ...


class Chosen(Protocol):
    """A variant, and why it was taken."""

    @property
    def variant(self) -> Variant:
        """A variant of the repository."""
        ...

    @property
    def reason(self) -> str:
        """For people."""
        ...

    @property
    def setting(self) -> Setting | None:
        """How it would be loaded; None when that is not known."""
        ...

    @property
    def plan(self) -> Planned:
        """What it was chosen for."""
        ...


class Chooser(Protocol):
    """Decides what fits this machine."""

    async def choose(
        self,
        repository: Repository,
        quantization: str | None = None,
        *,
        file: str | None = None,
        terms: Terms,
        on_wait: OnWait | None = None,
    ) -> Chosen:
        """The variant of that quantization or file, or the best one, that fits; DoesNotFit, unless forced."""
        ...


class Registry(Facts, Protocol):
    """Where installed models are kept; calls may block and are made in threads."""

    def get(self, name: str) -> InstalledModel | None:
        """The model of exactly this name."""
        ...

    def add(self, model: InstalledModel) -> None:
        """Register a model, in place of one of the same name."""
        ...


class FileRegistrar(Protocol):
    """Registers local files, and finds what is installed."""

    async def register_file(self, path: Path) -> InstalledModel:
        """Register a local GGUF file."""
        ...

    async def resolve(self, name: str) -> InstalledModel:
        """The installed model a name means; ModelNotFound."""
        ...


class Pulls:
    """Starts pulls and does their work as jobs of the kind ``pull``.

    Phases in order: ``resolving``, ``choosing``, then for each file ``checking`` (what an earlier run left),
    ``downloading`` and ``verifying``, at last ``registering`` and ``done``; ``waiting`` may come between while the Hub
    is asked again. Once chosen, the result names variant, reason, setting and files: byte counts of the job run through
    the files in that order. The terms that were asked for are those that the model is loaded on from then on.
    """

    def __init__(
        self,
        jobs: Jobs,
        registry: Registry,
        hub: HubClient,
        chooser: Chooser,
        families: Families,
        files: FileRegistrar,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._jobs = jobs
        self._registry = registry
        self._hub = hub
        self._chooser = chooser
        self._families = families
        self._files = files
        self._clock = clock
        jobs.register(KIND, self._run)

    async def start(
        self,
        model: str,
        *,
        variant: str | None = None,
        terms: Terms = OPEN_TERMS,
    ) -> Job:
        """Start to pull ``model``; the same target on the same terms while one is under way is the same job.

        ``variant`` (a quantization or a file) goes before what the name says. A use case decides what is good enough,
        and where no context is asked for, the context. Raises BadName, ModelNotFound, InvalidRequest, ShuttingDown,
        StorageError; everything else becomes the job's error.
        """
        on_terms(PlanRequest(model), terms).check()
        if terms.draft not in (None, NO_DRAFT):
            await self._files.resolve(terms.draft)
        target = await asyncio.to_thread(find_target, model, variant, self._families)
        named = isinstance(target, Path) or target.specific
        request = {"model": model, "variant": variant, "terms": asdict(replace(terms, named=named))}
        key = target if isinstance(target, Path) else target.key
        return await self._jobs.submit(KIND, model, request, key=f"{key}|{request['terms']}")

    async def _run(self, handle: JobHandle) -> Mapping[str, Any]:
        request = handle.request
        target = await asyncio.to_thread(find_target, request["model"], request["variant"], self._families)
        if isinstance(target, Path):
            return await self._register_file(handle, target)
        order = await self._order(handle, target)
        handle.note(**order.told())
        if await asyncio.to_thread(self._is_installed, order):
            await asyncio.to_thread(agree, self._registry, order.name, order.terms)
            handle.progress(order.variant.size_bytes, order.variant.size_bytes)
            handle.say(f"{order.name} is up to date")
            return {"up_to_date": True}
        await asyncio.to_thread(self._note_fetched, order)
        paths = await Download(self._hub, order, handle).run()
        await self._install(handle, order, paths)
        return {"up_to_date": False}

    async def _register_file(self, handle: JobHandle, path: Path) -> Mapping[str, Any]:
        handle.enter("registering", f"reading {path}")
        model = await self._files.register_file(path)
        await asyncio.to_thread(agree, self._registry, model.name, _terms(handle))
        return {
            "name": model.name,
            "quantization": model.quantization,
            "repo": None,
            "revision": None,
            "files": [{"path": str(f.path), "size_bytes": f.size_bytes, "sha256": f.sha256} for f in model.files],
            "size_bytes": model.size_bytes,
            "reason": "a local file",
            "setting": None,
            "context_tokens": None,
            "up_to_date": False,
        }

    async def _order(self, handle: JobHandle, target: Target) -> Order:
        """Pin the repository and choose the variant; after a restart, keep to what had been chosen."""
        before = handle.job.result
        handle.enter("resolving", f"looking up {target.repo}")
        revision = before.get("revision") or "main"
        repository = await self._hub.repository(target.repo, revision, on_wait=_tell_waits(handle))
        variants = group_variants((file.path, file.size_bytes) for file in repository.files)
        candidates = matching(target, repository.repo_id, variants)
        terms = _terms(handle)

        def order(
            variant: Variant, reason: str, setting: Mapping[str, Any] | None = None, context_tokens: int | None = None
        ) -> Order:
            name = installed_name(target, repository.repo_id, variant, variants)
            return Order(repository, variant, name, reason, terms, setting, context_tokens)

        begun = [file["path"] for file in before.get("files", ())]
        for variant in candidates:
            if list(variant.paths) == begun:
                return order(variant, before["reason"], before.get("setting"), before.get("context_tokens"))
        there = len(candidates) == 1 and await asyncio.to_thread(self._is_there, order(candidates[0], ""))
        if there and not terms.binding:
            return order(candidates[0], "installed before")
        handle.enter("choosing", "choosing what fits this machine")
        chosen = await self._chooser.choose(
            repository,
            target.quantization,
            file=target.file,
            terms=terms,
            on_wait=_tell_waits(handle),
        )
        setting = None if chosen.setting is None else asdict(chosen.setting)
        return order(chosen.variant, chosen.reason, setting, chosen.plan.context_tokens if terms.binding else None)

    def _is_there(self, order: Order) -> bool:
        """Whether it was chosen before: a damaged file is no reason to choose again, nor a header to choose by."""
        return self._is_installed(order) or is_damaged(self._registry, order.name)

    def _is_installed(self, order: Order) -> bool:
        model = self._registry.get(order.name)
        return (
            model is not None
            and model.revision == order.repository.revision
            and [file.size_bytes for file in model.files] == [file.size_bytes for file in order.files]
            and all(_has_size(file) for file in model.files)
            and not is_damaged(self._registry, order.name)
        )

    def _note_fetched(self, order: Order) -> None:
        """Remember what this pull is to bring into the cache, and not what others brought there."""
        new = [file for file in order.files if self._hub.cached(order.repository, file) is None]
        note_fetched(self._registry, order.repository.repo_id, (file.digest for file in new), self._clock())

    def _replace(self, model: InstalledModel) -> None:
        """Register a model; what one of its name had before is let go, and is garbage one day."""
        before = self._registry.get(model.name)
        if before is not None and before.repo is not None:
            note_fetched(self._registry, before.repo, (file.sha256 for file in before.files), self._clock())
        self._registry.add(model)

    async def _install(self, handle: JobHandle, order: Order, paths: Sequence[Path]) -> None:
        handle.work_on(None)
        handle.enter("registering", f"registering {order.name}")
        try:
            facts = await asyncio.to_thread(inspect, paths)
        except BadFile as error:
            raise BadFile(
                f"{order.repository.repo_id} was downloaded but cannot be used: {error.message}",
                hint=error.hint or "choose another variant or repository",
            ) from error
        await asyncio.to_thread(self._replace, _installed(order, paths, facts, self._clock()))
        await asyncio.to_thread(note_damage, self._registry, order.name, damaged=False)
        await asyncio.to_thread(agree, self._registry, order.name, order.terms)
        handle.say(f"{order.name} is installed")


def _terms(handle: JobHandle) -> Terms:
    return msgspec.convert(handle.request["terms"], Terms)


def _tell_waits(handle: JobHandle) -> OnWait:
    def tell(message: str, _wait_s: float) -> None:
        handle.enter("waiting", message)

    return tell


def _has_size(file: InstalledFile) -> bool:
    try:
        return file.path.stat().st_size == file.size_bytes
    except OSError:
        return False


def _installed(order: Order, paths: Sequence[Path], facts: FileFacts, now: float) -> InstalledModel:
    files = zip(paths, order.files, strict=True)
    return InstalledModel(
        name=order.name,
        source="hub",
        files=tuple(InstalledFile(path, file.size_bytes, file.sha256) for path, file in files),
        repo=order.repository.repo_id,
        revision=order.repository.revision,
        quantization=order.variant.quantization or facts.quantization,
        architecture=facts.architecture,
        context_length=facts.context_length,
        parameter_count=facts.parameter_count,
        license=order.repository.license or facts.license,
        installed_at=now,
    )
