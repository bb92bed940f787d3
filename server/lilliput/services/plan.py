"""What a model's variants would need on a machine, which one to take, and why."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from lilliput.catalogue import InstalledModel, ModelName, PathName, parse_name
from lilliput.engine import Role
from lilliput.errors import (
    BadFile,
    BadName,
    DoesNotFit,
    HubUnreachable,
    LilliputError,
    RepositoryNotFound,
    VariantNotFound,
)
from lilliput.fit import RAM, Option, Verdict
from lilliput.gguf import Variant, group_variants
from lilliput.hub import OnWait, Repository
from lilliput.pool import LoadPlan
from lilliput.services.companions import Listing, find_companions, notes_on
from lilliput.services.local_files import shards_of
from lilliput.services.lookup import find_installed
from lilliput.services.model_facts import HeaderReader, ModelFacts, RemoteFacts, read_facts
from lilliput.services.plan_records import Chosen, Plan
from lilliput.services.plan_request import PlanDefaults, PlanRequest
from lilliput.services.planning import Judged, Planner
from lilliput.services.roles import check_role
from lilliput.services.settings_grid import idle_sequences
from lilliput.services.targets import Families, Target, context_fact, find_target, matching, variant_name
from lilliput.services.tuning_choice import LoadChoices, Tuning
from lilliput.services.variant_offers import Entry
from lilliput.units import format_bytes

_REMOVED_TYPES = ("Q4_0_4_4", "Q4_0_4_8", "Q4_0_8_8", "IQ4_NL_4_4")


class PlanHub(HeaderReader, Protocol):
    """What planning asks of the Hub."""

    async def repository(self, repo_id: str) -> Repository:
        """The repository with its files and their exact sizes."""
        ...


class Installed(Protocol):
    """What planning asks about installed models; calls may block and are made in threads."""

    def installed(self) -> tuple[InstalledModel, ...]:
        """All installed models."""
        ...

    def get_fact(self, key: str) -> str | None:
        """What was remembered."""
        ...


class Plans:
    """Plans models: installed ones, repositories of the Hub, local files and bare headers.

    ``tuned`` tells what was measured of a model's file here, and what somebody has chosen for it.
    """

    def __init__(
        self,
        hub: PlanHub,
        installed: Installed,
        families: Families,
        planner: Planner,
        defaults: PlanDefaults,
        tuned: Callable[[InstalledModel], Awaitable[Tuning]] | None = None,
    ) -> None:
        self._hub = hub
        self._installed = installed
        self._families = families
        self._planner = planner
        self._defaults = defaults
        self._tuned = tuned
        self._remote = RemoteFacts(hub)

    async def plan(self, request: PlanRequest) -> Plan:
        """Plan an installed model, a family, a repository of the Hub or a local file (a bare header is enough).

        Raises BadName, ModelNotFound, VariantNotFound, BadFile, InvalidRequest and the errors of the Hub.
        """
        request.check()
        installed = await self._find_installed(request.model)
        if installed is not None:
            return await self._plan_own(request, installed)
        target = await asyncio.to_thread(find_target, request.model, None, self._families)
        if isinstance(target, Path):
            return await self._plan_file(request, target)
        try:
            repository = await self._hub.repository(target.repo)
        except (HubUnreachable, RepositoryNotFound):
            local = await self._meant(request.model)
            if local is None:
                raise
            return await self._plan_own(request, local)
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
        context_tokens: int | None = None,
        use_case: str | None = None,
        force: bool = False,
        on_wait: OnWait | None = None,
    ) -> Chosen:
        """The variant of ``repository`` to download: of ``quantization``, or with ``file``, or (both None) the best.

        ``on_wait`` hears when the Hub has to be waited for.
        Raises DoesNotFit with the smallest need and the budget unless ``force``, which then takes the best that fits,
        though below the floor, else the smallest; VariantNotFound when there is none of that kind.
        """
        target = Target(repository.repo_id, quantization, file)
        request = PlanRequest(repository.repo_id, context_tokens=context_tokens, use_case=use_case)
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
        if not force:
            raise _does_not_fit(repository.repo_id, choice.smallest(asked - plan.fitting) or smallest, judged)
        taken = next((one for one in choice.verdicts if one.candidate.name in asked & plan.fitting), smallest)
        reason = f"forced: {taken.reason}" if taken.fits else f"forced, although it {taken.reason}"
        return _chosen(taken, reason, variants, plan)

    async def plan_load(self, model: InstalledModel, room: Mapping[str, int], role: Role = "generate") -> LoadPlan:
        """How the pool loads an installed model into ``room`` (bytes by device) for work of this role.

        Raises BadFile when it cannot be loaded, InvalidRequest when it is not made for this role. The context it was
        pulled for goes before the usual one.
        """
        facts = await asyncio.to_thread(read_facts, [file.path for file in model.files])
        check_role(model.name, facts.header, role)
        pooled = role != "generate"
        defaults = self._defaults
        pulled_for = await asyncio.to_thread(self._installed.get_fact, context_fact(model.name))
        usual = min(defaults.context_tokens, facts.shape.context_length or defaults.context_tokens)
        context = int(pulled_for) if pulled_for is not None else usual
        entry = Entry(model.name, model.quantization, (), facts.file_bytes, facts=facts)
        tuning = Tuning() if pooled or self._tuned is None else await self._tuned(model)
        choices = tuning.settings
        ubatch, flash = choices.ubatch_tokens or defaults.ubatch_tokens, choices.flash_attention
        ask = partial(
            self._planner.option, facts, entry, context, defaults.slots, room, pooled=pooled, ubatch_tokens=ubatch
        )
        option = await ask(flash_attention=flash)
        if flash is False and not (option is not None and _fits_whole(option, context, room)):
            flash, option = None, await ask()  # without it the scratch is larger: memory goes before speed
        if option is None:
            raise BadFile(f"llama.cpp cannot load {model.name}", hint="is the file damaged, or newer than this build?")
        setting = option.setting
        if setting.gpu_layers:  # what was measured holds for the processor alone
            choices, flash = tuning.chosen, tuning.chosen.flash_attention
        plan = LoadPlan(
            context_tokens=setting.context_tokens,
            slots=setting.slots,
            max_sequences=setting.slots + (0 if pooled else idle_sequences(facts.shape)),
            needs=option.needs,
            tensor_types=facts.header.tensor_types,
            gpu_layers=setting.gpu_layers,
            cpu_expert_layers=setting.cpu_expert_layers,
            tensor_split=option.tensor_split,
            kv_type=setting.kv_type,
            role=role,
            causal=not facts.shape.encoder,
            flash_attention=flash if setting.plain_kv else None,
            ubatch_tokens=ubatch,
            store_bytes=0 if pooled else _store_bytes(defaults.store_bytes, option, room),
        )
        return _chosen_for(plan, choices)

    async def aclose(self) -> None:
        """Stop reading headers."""
        await self._remote.aclose()

    async def _plan_own(self, request: PlanRequest, model: InstalledModel) -> Plan:
        """Where it is loaded already, what it holds is its own."""
        return await self._plan_installed(replace(request, as_if_unloaded=frozenset({model.name})), [model])

    async def _plan_installed(self, request: PlanRequest, models: Sequence[InstalledModel]) -> Plan:
        entries = []
        for model in models:
            facts = await asyncio.to_thread(read_facts, [file.path for file in model.files])
            quantization = model.quantization or facts.header.quantization
            name = model.name if len(models) > 1 else quantization or model.name
            files = tuple(str(file.path) for file in model.files)
            entries.append(Entry(name, quantization, files, facts.file_bytes, facts=facts))
        named = None if request.use_case is not None or request.every_type else {entry.name for entry in entries}
        first = entries[0].facts
        assert first is not None
        return (await self._judge(request, first, entries, named, partial(self._origin, models[0]))).plan

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
        specific = target.quantization is not None or target.file is not None
        named = {variant_name(one, variants) for one in asked} if specific else None
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

    async def _meant(self, text: str) -> InstalledModel | None:
        """The installed model that a chat with this name would use, for when the Hub cannot be asked."""
        installed = await asyncio.to_thread(self._installed.installed)
        return next(iter(find_installed(parse_name(text), installed, self._families)), None)


async def _known(repository: Repository) -> Repository:
    return repository


async def _nowhere() -> None:
    """The origin of a local file."""


def _chosen_for(plan: LoadPlan, choices: LoadChoices) -> LoadPlan:
    """The plan with what its memory does not depend on."""
    return replace(
        plan,
        threads=choices.threads or 0,
        batch_threads=choices.batch_threads or 0,
        width=choices.width or 0,
        repack=choices.repack is not False,
        memory_map=choices.memory_map is not False,
        memory_lock=bool(choices.memory_lock),
    )


def _fits_whole(option: Option, context_tokens: int, room: Mapping[str, int]) -> bool:
    """Whether nothing of the context had to be given up."""
    whole = option.setting.context_tokens >= context_tokens and option.setting.plain_kv
    return whole and all(need.total_bytes <= room.get(name, 0) for name, need in option.needs.items())


def _store_bytes(wanted: int, option: Option, room: Mapping[str, int]) -> int:
    """What a store for prefixes may take: what was wanted, but no more than half of what the model leaves."""
    left = room.get(RAM, 0) - (option.needs[RAM].total_bytes if RAM in option.needs else 0)
    return max(0, min(wanted, left // 2))


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
