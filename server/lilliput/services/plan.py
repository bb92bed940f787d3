"""What a model's variants would need on a machine, which one to take, and why."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from lilliput.catalogue import InstalledModel, ModelName, PathName, parse_name
from lilliput.errors import BadName, DoesNotFit, HubError, LilliputError, RepositoryNotFound, VariantNotFound
from lilliput.fit import Verdict
from lilliput.gguf import Variant, group_variants
from lilliput.hub import OnWait, Repository
from lilliput.pool import OPEN_TERMS, Terms
from lilliput.services.agreements import ReadFacts, agreed, on_terms
from lilliput.services.companions import Listing, find_companions, notes_on
from lilliput.services.local_files import shards_of
from lilliput.services.lookup import find_installed, same_model
from lilliput.services.model_facts import HeaderReader, ModelFacts, RemoteFacts, read_facts
from lilliput.services.plan_records import Chosen, Plan
from lilliput.services.plan_request import PlanRequest
from lilliput.services.planning import Judged, Planner
from lilliput.services.targets import Families, Target, find_target, matching, variant_name
from lilliput.services.variant_offers import Entry
from lilliput.units import format_bytes

_REMOVED_TYPES = ("Q4_0_4_4", "Q4_0_4_8", "Q4_0_8_8", "IQ4_NL_4_4")


class PlanHub(HeaderReader, Protocol):
    """What planning asks of the Hub."""

    async def repository(self, repo_id: str, *, brief: bool = False) -> Repository:
        """The repository with its files and their exact sizes; ``brief``: asked once, and not for long."""
        ...


class Installed(ReadFacts, Protocol):
    """What planning asks about installed models; calls may block and are made in threads."""

    def installed(self) -> tuple[InstalledModel, ...]:
        """All installed models."""
        ...


class Plans:
    """Plans models: installed ones, repositories of the Hub, local files and bare headers."""

    def __init__(self, hub: PlanHub, installed: Installed, families: Families, planner: Planner) -> None:
        self._hub = hub
        self._installed = installed
        self._families = families
        self._planner = planner
        self._remote = RemoteFacts(hub)

    async def plan(self, request: PlanRequest) -> Plan:
        """Plan an installed model, a family, a repository of the Hub or a local file (a bare header is enough).

        A request that leaves all open is about an installed model as it is loaded. Where a variant of an open name is
        installed, the Hub is asked but once, and without its answer the plan is of what is installed.
        Raises BadName, ModelNotFound, VariantNotFound, BadFile, InvalidRequest and the errors of the Hub.
        """
        request.check()
        installed = await self._find_installed(request.model)
        if installed is not None:
            return await self._plan_own(request, installed)
        target = await asyncio.to_thread(find_target, request.model, None, self._families)
        if isinstance(target, Path):
            return await self._plan_file(request, target)
        here = await self._meant(request.model)
        try:
            repository = await self._hub.repository(target.repo, brief=bool(here))
        except (HubError, RepositoryNotFound) as error:
            if not here:
                raise
            plan = await self._plan_own(request, *here)
            return replace(plan, notes=(*plan.notes, f"only what is installed was planned: {error.message}"))
        judged, _ = await self._plan_repository(request, repository, target)
        return judged.plan

    async def best_installed(self, name: str, models: Sequence[InstalledModel]) -> InstalledModel:
        """Of installed variants of one model, the one that its plan takes; the smallest when nothing fits.

        Raises BadFile when none of them can be read.
        """
        models = await asyncio.to_thread(_readable, models) if len(models) > 1 else models
        if len(models) == 1:
            return models[0]
        request = PlanRequest(name, as_if_unloaded=frozenset(model.name for model in models))
        plan = await self._plan_installed(request, models)
        chosen = plan.chosen or min(plan.variants, key=lambda one: one.total_bytes or one.file_bytes).name
        return next(model for model in models if model.name == chosen)

    async def choose(
        self,
        repository: Repository,
        quantization: str | None = None,
        *,
        file: str | None = None,
        terms: Terms = OPEN_TERMS,
        on_wait: OnWait | None = None,
    ) -> Chosen:
        """The variant of ``repository`` to download: of ``quantization``, or with ``file``, or (both None) the best.

        ``on_wait`` hears when the Hub has to be waited for.
        Raises DoesNotFit with the smallest need and the budget unless the terms are ``forced``: then it takes the best
        that fits, though below the floor, else the smallest. VariantNotFound when there is none of that kind.
        """
        target = Target(repository.repo_id, quantization, file)
        request = on_terms(PlanRequest(repository.repo_id), terms)
        judged, variants = await self._plan_repository(request, repository, target, on_wait)
        plan, choice = judged.plan, judged.choice
        if choice.chosen is not None:
            room = f"; idle engines make room for it: {judged.makes_room}" if judged.makes_room else ""
            return _chosen(choice.chosen, choice.chosen.reason + room, variants, plan)
        asked = {
            variant_name(one, variants.values()) for one in matching(target, repository.repo_id, [*variants.values()])
        }
        smallest = choice.smallest(asked)
        if smallest is None:
            raise VariantNotFound(
                f"{repository.repo_id} has nothing that this version of llama.cpp can load",
                hint="look for a newer repository of the same model",
            )
        if not terms.forced:
            raise _does_not_fit(repository.repo_id, choice.smallest(asked - plan.fitting) or smallest, judged)
        taken = next((one for one in choice.verdicts if one.candidate.name in asked & plan.fitting), smallest)
        reason = f"forced: {taken.reason}" if taken.fits else f"forced, although it {taken.reason}"
        return _chosen(taken, reason, variants, plan)

    async def aclose(self) -> None:
        """Stop reading headers."""
        await self._remote.aclose()

    async def _plan_own(self, request: PlanRequest, *models: InstalledModel) -> Plan:
        """Where they are loaded already, what they hold is their own; terms agreed on stand in for open ones."""
        request = replace(request, as_if_unloaded=frozenset(model.name for model in models))
        if len(models) > 1:
            return await self._plan_installed(request, await asyncio.to_thread(_readable, models))
        terms = await asyncio.to_thread(agreed, self._installed, models[0].name)
        if not terms.binding or not request.open:
            return await self._plan_installed(request, models)
        return await self._plan_installed(on_terms(request, terms), models, named=terms.named)

    async def _plan_installed(
        self, request: PlanRequest, models: Sequence[InstalledModel], *, named: bool = False
    ) -> Plan:
        entries = []
        for model in models:
            facts = await asyncio.to_thread(read_facts, [file.path for file in model.files])
            quantization = model.quantization or facts.header.quantization
            name = model.name if len(models) > 1 else quantization or model.name
            files = tuple(str(file.path) for file in model.files)
            entries.append(Entry(name, quantization, files, facts.file_bytes, facts=facts))
        open_choice = request.every_type or (request.use_case is not None and not named)
        names = None if open_choice else {entry.name for entry in entries}
        first = entries[0].facts
        assert first is not None
        return (await self._judge(request, first, entries, names, partial(self._origin, models[0]))).plan

    async def _plan_file(self, request: PlanRequest, path: Path) -> Plan:
        paths = await asyncio.to_thread(shards_of, path)
        facts = await asyncio.to_thread(read_facts, paths)
        name = facts.header.quantization or path.name
        files = tuple(str(one) for one in paths)
        entry = Entry(name, facts.header.quantization, files, facts.file_bytes, facts=facts)
        named = None if request.use_case is not None or request.every_type else {name}
        return (await self._judge(request, facts, [entry], named, _nowhere)).plan

    async def _plan_repository(
        self, request: PlanRequest, repository: Repository, target: Target, on_wait: OnWait | None = None
    ) -> tuple[Judged, Mapping[str, Variant]]:
        variants = group_variants((file.path, file.size_bytes) for file in repository.files)
        asked = matching(target, repository.repo_id, variants)
        stem = Counter(one.stem.casefold() for one in asked).most_common(1)[0][0]
        read = min(
            (one for one in asked if one.stem.casefold() == stem), key=lambda one: (len(one.paths), one.size_bytes)
        )
        facts = await self._remote.of(repository, read.paths, read.size_bytes, on_wait)
        by_name = {variant_name(one, variants): one for one in variants}
        entries = [
            Entry(
                name,
                one.quantization,
                one.paths,
                one.size_bytes,
                _problem(one, stem),
                replace(facts, file_bytes=one.size_bytes) if one is read else None,
            )
            for name, one in by_name.items()
        ]
        named = {variant_name(one, variants) for one in asked} if target.specific else None
        return await self._judge(request, facts, entries, named, partial(_known, repository), repository), by_name

    async def _judge(
        self,
        request: PlanRequest,
        facts: ModelFacts,
        entries: Sequence[Entry],
        named: Collection[str] | None,
        listing: Listing,
        repository: Repository | None = None,
    ) -> Judged:
        """The plan with the files that are wanted beside; projectors of ``repository`` that are not are noted."""
        beside = await find_companions(request, listing)
        judged = await self._planner.judge(request, facts, entries, named, sum(one.size_bytes for one in beside))
        notes = (*judged.plan.notes, *notes_on(beside, repository))
        return replace(judged, plan=replace(judged.plan, notes=notes))

    async def _origin(self, model: InstalledModel) -> Repository | None:
        return None if model.repo is None else await self._hub.repository(model.repo)

    async def _find_installed(self, text: str) -> InstalledModel | None:
        """The installed model of exactly this name; a name that leaves the choice open is for the Hub."""
        name = parse_name(text)
        if isinstance(name, PathName):
            return None
        installed = await asyncio.to_thread(self._installed.installed)
        return next((model for model in installed if _same(model.name, name)), None)

    async def _meant(self, text: str) -> tuple[InstalledModel, ...]:
        """The installed variants that a chat with this name would choose from, for when the Hub cannot be asked."""
        installed = await asyncio.to_thread(self._installed.installed)
        found = find_installed(parse_name(text), installed, self._families)
        return tuple(one for one in found if same_model(one, found[0]))


async def _known(repository: Repository) -> Repository:
    return repository


async def _nowhere() -> None:
    """The origin of a local file."""


def _readable(models: Sequence[InstalledModel]) -> Sequence[InstalledModel]:
    """Those whose headers are sound; all when none is, so that what is wrong is told."""

    def sound(model: InstalledModel) -> bool:
        with contextlib.suppress(LilliputError):
            return bool(read_facts([file.path for file in model.files]))
        return False

    return [model for model in models if sound(model)] or models


def _same(name: str, wanted: ModelName) -> bool:
    try:
        return parse_name(name) == wanted
    except BadName:
        return False


def _problem(variant: Variant, stem: str) -> str | None:
    if not variant.complete:
        return "cannot be loaded: parts of its split set are missing"
    if variant.stem.casefold() != stem:
        return f"not judged: {variant.paths[0]} is another model, name its file to have it"
    if variant.quantization in _REMOVED_TYPES:
        return "cannot be loaded: llama.cpp has removed this type, Q4_0 replaces it"
    return None


def _chosen(verdict: Verdict, reason: str, variants: Mapping[str, Variant], plan: Plan) -> Chosen:
    option = verdict.option
    return Chosen(variants[verdict.candidate.name], reason, plan, option.setting if option is not None else None)


def _does_not_fit(repo_id: str, smallest: Verdict, judged: Judged) -> DoesNotFit:
    """Names the smallest need and the budget, and what would help."""
    option = smallest.option
    assert option is not None
    over = {name: part for name, part in judged.plan.budget.items() if name in option.needs}
    budget_bytes = sum(part.budget_bytes for part in over.values())
    because = "; ".join(f"{name}: {format_bytes(part.budget_bytes)}, {part.because}" for name, part in over.items())
    named = [f"ask for {one.name}" for one in judged.plan.variants if one.name in judged.plan.fitting][:1]
    ways = [*(f"{smallest.candidate.name} {way}" for way in smallest.near_misses), *named]
    ways += ["free memory", "take a smaller model", "force it"]
    return DoesNotFit(
        f"{repo_id}: {judged.choice.summary} (budget of {because})",
        need_bytes=option.total_bytes,
        budget_bytes=budget_bytes,
        hint=", or ".join(ways),
    )
