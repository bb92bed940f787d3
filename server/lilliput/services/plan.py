"""What a model's variants would need on this machine now, which one to take, and why."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lilliput.catalogue import InstalledModel, ModelName, PathName, parse_name
from lilliput.errors import BadName, DoesNotFit, HubUnreachable, InvalidRequest, VariantNotFound
from lilliput.fit import (
    Candidate,
    Choice,
    MemoryNeed,
    Shape,
    choose,
    describe_need,
    estimate_need,
    make_budget,
    shape_of,
)
from lilliput.gguf import ByteSource, FileSource, Header, Variant, group_variants, read_header
from lilliput.hardware import Hardware, read_hardware
from lilliput.hub import OnWait, Repository
from lilliput.services.local_files import shards_of
from lilliput.services.lookup import find_installed
from lilliput.services.plan_records import Chosen, Plan, PlanDefaults, make_plan
from lilliput.services.shapes import HeaderReader, Shapes
from lilliput.services.targets import Families, Target, find_target, matching
from lilliput.units import format_bytes

_REMOVED_TYPES = ("Q4_0_4_4", "Q4_0_4_8", "Q4_0_8_8", "IQ4_NL_4_4")
_SMALLEST_CONTEXT_TOKENS = 512


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


@dataclass(frozen=True, slots=True)
class _Offer:
    """One variant before it is judged: ``name`` is unique in its plan, ``problem`` says why it cannot be loaded."""

    name: str
    quantization: str | None
    files: tuple[str, ...]
    file_bytes: int
    problem: str | None = None


class Plans:
    """Plans models on this machine. ``hardware`` is read anew for every plan, in a thread."""

    def __init__(
        self,
        hub: PlanHub,
        installed: Installed,
        families: Families,
        defaults: PlanDefaults | None = None,
        *,
        hardware: Callable[[], Hardware] = read_hardware,
    ) -> None:
        self._hub = hub
        self._installed = installed
        self._families = families
        self._defaults = defaults or PlanDefaults()
        self._hardware = hardware
        self._shapes = Shapes(hub)

    async def plan(self, model: str, *, context_tokens: int | None = None, slots: int | None = None) -> Plan:
        """Plan an installed model, a family, a repository of the Hub or a local file (a bare header is enough).

        Raises BadName, ModelNotFound, VariantNotFound, BadFile, InvalidRequest and the errors of the Hub.
        """
        _check(context_tokens, slots)
        installed = await self._find_installed(model)
        if installed is not None:
            return await self.plan_installed(installed, context_tokens=context_tokens, slots=slots)
        target = await asyncio.to_thread(find_target, model, None, self._families)
        if isinstance(target, Path):
            return await self._plan_file(model, target, context_tokens, slots)
        try:
            repository = await self._hub.repository(target.repo)
        except HubUnreachable:
            local = await self._meant(model)
            if local is None:
                raise
            return await self.plan_installed(local, context_tokens=context_tokens, slots=slots)
        plan, _, _ = await self._plan_repository(model, repository, target, context_tokens, slots)
        return plan

    async def plan_installed(
        self, model: InstalledModel, *, context_tokens: int | None = None, slots: int | None = None
    ) -> Plan:
        """Plan one installed model; errors as ``plan``."""
        paths = tuple(file.path for file in model.files)
        header, size_bytes = await asyncio.to_thread(_read_files, paths)
        quantization = model.quantization or header.quantization
        offer = _Offer(quantization or model.name, quantization, tuple(map(str, paths)), size_bytes)
        plan, _ = await self._judge(model.name, shape_of(header), [offer], None, context_tokens, slots)
        return plan

    async def choose(
        self,
        repository: Repository,
        quantization: str | None = None,
        *,
        file: str | None = None,
        context_tokens: int | None = None,
        force: bool = False,
        on_wait: OnWait | None = None,
    ) -> Chosen:
        """The variant of ``repository`` to download: of ``quantization``, or with ``file``, or (both None) the best.

        ``on_wait`` hears when the Hub has to be waited for.
        Raises DoesNotFit with the smallest need and the budget unless ``force``, which then takes the smallest;
        VariantNotFound when there is none of that kind.
        """
        _check(context_tokens, None)
        target = Target(repository.repo_id, quantization, file)
        plan, choice, variants = await self._plan_repository(
            repository.repo_id, repository, target, context_tokens, None, on_wait
        )
        if choice.chosen is not None:
            return Chosen(variants[choice.chosen.candidate.name], choice.chosen.reason, plan)
        asked = {_name(one, variants.values()) for one in matching(target, repository.repo_id, [*variants.values()])}
        smallest = choice.smallest(asked)
        if smallest is None:
            raise VariantNotFound(
                f"{repository.repo_id} has nothing that this version of llama.cpp can load",
                hint="look for a newer repository of the same model",
            )
        if not force:
            raise _does_not_fit(repository.repo_id, smallest, choice, plan)
        need = describe_need(smallest.need, plan.context_tokens)
        return Chosen(variants[smallest.name], f"forced, although it {need}: {plan.budget.because}", plan)

    async def aclose(self) -> None:
        """Stop reading headers."""
        await self._shapes.aclose()

    async def _plan_repository(
        self,
        model: str,
        repository: Repository,
        target: Target,
        context_tokens: int | None,
        slots: int | None,
        on_wait: OnWait | None = None,
    ) -> tuple[Plan, Choice, Mapping[str, Variant]]:
        variants = group_variants((file.path, file.size_bytes) for file in repository.files)
        asked = matching(target, repository.repo_id, variants)
        stem = Counter(one.stem.casefold() for one in asked).most_common(1)[0][0]
        smallest = min((one for one in asked if one.stem.casefold() == stem), key=lambda one: one.size_bytes)
        shape = await self._shapes.of(repository, smallest.paths[0], on_wait)
        by_name = {_name(one, variants): one for one in variants}
        offers = [
            _Offer(name, one.quantization, one.paths, one.size_bytes, _problem(one, stem))
            for name, one in by_name.items()
        ]
        specific = target.quantization is not None or target.file is not None
        pinned = {_name(one, variants) for one in asked} if specific else None
        plan, choice = await self._judge(model, shape, offers, pinned, context_tokens, slots)
        return plan, choice, by_name

    async def _plan_file(self, model: str, path: Path, context_tokens: int | None, slots: int | None) -> Plan:
        paths = await asyncio.to_thread(shards_of, path)
        header, size_bytes = await asyncio.to_thread(_read_files, paths)
        name = header.quantization or path.name
        offer = _Offer(name, header.quantization, tuple(map(str, paths)), size_bytes)
        plan, _ = await self._judge(model, shape_of(header), [offer], None, context_tokens, slots)
        return plan

    async def _judge(
        self,
        model: str,
        shape: Shape,
        offers: Sequence[_Offer],
        pinned: set[str] | None,
        context_tokens: int | None,
        slots: int | None,
    ) -> tuple[Plan, Choice]:
        hardware = await asyncio.to_thread(self._hardware)
        defaults = self._defaults
        budget = make_budget(
            hardware.memory,
            reserve_bytes=defaults.reserve_bytes,
            use_fraction=defaults.use_fraction,
            limit_bytes=defaults.limit_bytes,
        )
        most = shape.context_length or defaults.context_tokens
        context = context_tokens or min(most, defaults.context_tokens)
        sequences = slots or defaults.slots
        candidates = [self._candidate(shape, offer, context, sequences) for offer in offers]
        choice = choose(candidates, budget, context_tokens=context, pinned=pinned)
        files = {offer.name: offer.files for offer in offers}
        plan = make_plan(model, hardware, budget, choice, files, context_tokens=context, slots=sequences)
        return plan, choice

    def _candidate(self, shape: Shape, offer: _Offer, context: int, slots: int) -> Candidate:
        def need(tokens: int) -> MemoryNeed:
            return estimate_need(shape, offer.file_bytes, tokens, slots, ubatch_tokens=self._defaults.ubatch_tokens)

        smaller = []
        tokens = context // 2
        while tokens >= _SMALLEST_CONTEXT_TOKENS:
            smaller.append((tokens, need(tokens)))
            tokens //= 2
        return Candidate(offer.name, offer.quantization, offer.file_bytes, need(context), tuple(smaller), offer.problem)

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


class _OpenEnded:
    """A file whose length is not told, so that a header without its tensor data is read as well."""

    size_bytes = None

    def __init__(self, source: ByteSource) -> None:
        self._source = source

    def read(self, offset: int, size: int) -> bytes:
        """The ``size`` bytes at ``offset``; fewer at the end."""
        return self._source.read(offset, size)


def _read_files(paths: Sequence[Path]) -> tuple[Header, int]:
    """The first file's header and the bytes of all; a file cut after its header counts as whole."""
    with FileSource(paths[0]) as source:
        header = read_header(_OpenEnded(source), name=str(paths[0]))
    size_bytes = sum(path.stat().st_size for path in paths)
    return header, max(size_bytes, header.data_offset_bytes + header.weights_bytes)


def _check(context_tokens: int | None, slots: int | None) -> None:
    for param, value in (("context", context_tokens), ("slots", slots)):
        if value is not None and value < 1:
            raise InvalidRequest(f"{param} is {value}, but must be at least 1", param=param)


def _same(name: str, wanted: ModelName) -> bool:
    try:
        return parse_name(name) == wanted
    except BadName:
        return False


def _name(variant: Variant, variants: Iterable[Variant]) -> str:
    """The quantization; the path where it is unknown or several variants share it."""
    alike = sum(1 for other in variants if other.quantization == variant.quantization)
    if variant.quantization is None or alike > 1:
        return variant.paths[0].removesuffix(".gguf")
    return variant.quantization


def _problem(variant: Variant, stem: str) -> str | None:
    if not variant.complete:
        return "cannot be loaded: parts of its split set are missing"
    if variant.stem.casefold() != stem:
        return f"not judged: {variant.paths[0]} is another model, name its file to have it"
    if variant.quantization in _REMOVED_TYPES:
        return "cannot be loaded: llama.cpp has removed this type, Q4_0 replaces it"
    return None


def _does_not_fit(repo_id: str, smallest: Candidate, choice: Choice, plan: Plan) -> DoesNotFit:
    """Names the smallest need and the budget, and what would help."""
    budget_bytes = plan.budget.budget_bytes
    fitting = next((verdict.candidate.name for verdict in choice.verdicts if verdict.fits), None)
    contexts = [tokens for tokens, need in smallest.smaller if need.total_bytes <= budget_bytes]
    ways = [f"{fitting} would fit"] if fitting else []
    ways += [f"{smallest.name} would fit at a context of {max(contexts)}"] if contexts else []
    ways += ["free memory", "take a smaller model", "force it"]
    return DoesNotFit(
        f"{smallest.name} of {repo_id} {describe_need(smallest.need, plan.context_tokens)},"
        f" {format_bytes(smallest.need.total_bytes)} in all{'' if fitting else ', and nothing there needs less'};"
        f" the budget is {format_bytes(budget_bytes)} ({plan.budget.because})",
        need_bytes=smallest.need.total_bytes,
        budget_bytes=budget_bytes,
        hint=", or ".join(ways),
    )
