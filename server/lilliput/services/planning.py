"""Judge the variants of one model on one machine: ask llama.cpp, assemble the options, choose."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from lilliput.errors import InvalidRequest
from lilliput.fit import (
    NO_REPACKING,
    Budget,
    Choice,
    Offload,
    Option,
    QualityTable,
    Repacking,
    Scratch,
    Setting,
    Shape,
    Surroundings,
    UseCases,
    Verdict,
    Wish,
    choose,
    in_unified_memory,
    make_candidate,
    overhead_bytes,
    share_out,
)
from lilliput.llama import Point
from lilliput.services.long_context import check_length, long_context_notes, resolved
from lilliput.services.machine import Site, Sites, backend_of
from lilliput.services.model_facts import ModelFacts
from lilliput.services.oracle import Answers, Oracle
from lilliput.services.plan_records import Plan, idle_text, make_plan
from lilliput.services.plan_request import PlanDefaults, PlanRequest
from lilliput.services.repacks import Copying
from lilliput.services.settings_grid import (
    estimated_scratch,
    idle_sequences,
    on_absent_devices,
    points_of,
    pooled_settings_of,
    scratch_of,
    settings_of,
)
from lilliput.services.tuning_choice import UNTUNED, LoadChoices
from lilliput.services.variant_offers import Entry, mixes_to_ask, offer_of, tensor_types_of, would_be

_FORMULA_ANSWERS = ("unknown model architecture", "did not answer within")
"""Where llama.cpp does not know the architecture, or had no time, a formula stands in for it; not for refusals."""

_MATRIX = "making it needs an importance matrix"


class Corrections(Protocol):
    """What real loads have taught about predictions."""

    def overhead_bytes(self, architecture: str, backend: str, offload: Offload) -> int:
        """What to add to the overhead of a model of this architecture; negative when less was needed.

        ``backend`` is ggml's name of what computes (see ``backend_of``).
        """
        ...


class OnTypes(Protocol):
    """Who wants to know what plans and loads of this machine meet."""

    def __call__(self, types: Collection[str], /, *, experts: bool) -> None:
        """Hear the tensor types of a model, and whether it has experts."""
        ...


@dataclass(frozen=True, slots=True)
class Judged:
    """A plan, and the choice it tells. ``makes_room`` names the idle engines where the chosen needs their memory."""

    plan: Plan
    choice: Choice
    makes_room: str | None = None


@dataclass(frozen=True, slots=True)
class ToLoad:
    """How one variant would be loaded: what was wished, the choice, and its option; None when there is no way."""

    wish: Wish
    choice: Choice
    option: Option | None

    @property
    def verdict(self) -> Verdict:
        """On the one variant."""
        return self.choice.verdicts[0]

    @property
    def below_floor(self) -> bool:
        """Whether nothing but the floor of the use case speaks against it."""
        return self.choice.chosen is None and self.verdict.fits


class Planner:
    """Makes plans of models whose facts are known. ``on_types`` hears which tensor types this machine meets.

    Without ``repacks`` nothing is repacked here.
    """

    def __init__(
        self,
        oracle: Oracle,
        sites: Sites,
        quality: QualityTable,
        use_cases: UseCases,
        defaults: PlanDefaults,
        corrections: Corrections,
        on_types: OnTypes | None = None,
        repacks: Copying | None = None,
    ) -> None:
        self._oracle = oracle
        self._sites = sites
        self._quality = quality
        self._use_cases = use_cases
        self._defaults = defaults
        self._corrections = corrections
        self._on_types = on_types
        self._repacks = repacks

    async def judge(
        self,
        request: PlanRequest,
        facts: ModelFacts,
        entries: Sequence[Entry],
        named: Collection[str] | None,
        beside_bytes: int = 0,
    ) -> Judged:
        """The plan of a model's variants; ``named`` are those that the request asks for (None: any).

        ``beside_bytes`` are other files that would be loaded with each of them.
        Raises InvalidRequest for what cannot be asked.
        """
        request.check()
        site = await self._sites.find(request.machine, request.budget_bytes, request.as_if_unloaded)
        wish = replace(self._wish(request, facts.shape, named, site), beside_bytes=beside_bytes)
        pooled = facts.shape.encoder
        settings = pooled_settings_of(facts.shape, wish) if pooled else settings_of(facts.shape, wish)
        kinds = mixes_to_ask(entries, every_type=request.every_type)
        ubatch = self._defaults.ubatch_tokens
        scratch, answers = await self._scratch(facts, settings, site, kinds, pooled=pooled, ubatch=ubatch)
        refused = _refused(answers, scratch)
        if refused is not None and not any(words in refused for words in _FORMULA_ANSWERS):
            problem = f"llama.cpp would not load it: {refused}"
            entries = [replace(one, problem=one.problem or problem) for one in entries]
        more = await asyncio.to_thread(would_be, entries, facts, answers.mixes) if request.every_type else ()
        everything = (*entries, *more)
        copied = await self._repacking(everything, facts, answers, site)
        work = partial(self._choose, request, facts, everything, answers, site, wish, scratch, copied)
        judged = await asyncio.to_thread(work)
        if site.real:
            await self._tell_types(facts)
        return judged

    async def to_load(
        self,
        request: PlanRequest,
        facts: ModelFacts,
        entry: Entry,
        room: Mapping[str, int],
        *,
        named: bool,
        pooled: bool = False,
        tuned: LoadChoices = UNTUNED,
    ) -> ToLoad:
        """The best way to load one variant into ``room`` (bytes by device), or the nearest miss when none fits.

        ``named``: whatever the floor says of it. ``pooled``: to embed or rank with. Of how the file was
        ``tuned`` memory depends on flash attention (where the KV cache allows it), on the micro-batch and on repacking.
        It gives up the same in the same order as the plan of a pull, so that what that told is what is loaded. Raises
        InvalidRequest for what cannot be asked.
        """
        request.check()
        site = await self._sites.find(None, None)
        wish = self._wish(request, facts.shape, {entry.name} if named else None, site)
        site = replace(site, devices=share_out(site.devices, room))
        await self._tell_types(facts)
        settings = pooled_settings_of(facts.shape, wish) if pooled else settings_of(facts.shape, wish)
        ubatch = tuned.ubatch_tokens or self._defaults.ubatch_tokens
        scratch, answers = await self._scratch(
            facts, settings, site, (), pooled=pooled, ubatch=ubatch, flash_attention=tuned.flash_attention
        )
        budgets = {name: _whole(max(0, size)) for name, size in room.items()}
        rooms = {name: budget.budget_bytes for name, budget in budgets.items()}
        around = replace(self._surroundings(facts, site, wish, scratch, ubatch), rooms=rooms)
        (copied,) = await self._repacking((entry,), facts, answers, site)
        copied = NO_REPACKING if tuned.repack is False else copied
        candidate = make_candidate(offer_of(entry, facts, answers.mixes, copied), settings, around)
        unified = _unified(site)
        choice = choose(
            [candidate],
            budgets,
            wish,
            table=self._quality,
            architecture=facts.shape.architecture,
            unified=unified,
        )
        option = choice.verdicts[0].option
        if option is not None and unified:
            option = replace(option, needs=in_unified_memory(option.needs))
        return ToLoad(wish, choice, option)

    async def _tell_types(self, facts: ModelFacts) -> None:
        if self._on_types is not None:
            names, experts = await asyncio.to_thread(facts.types_read)
            self._on_types(names, experts=experts)

    def _wish(self, request: PlanRequest, shape: Shape, named: Collection[str] | None, site: Site) -> Wish:
        if request.gpu_layers and not site.devices:
            raise InvalidRequest(
                f"gpu_layers is {request.gpu_layers}, but the machine has no accelerator",
                hint="leave it out, or plan for a machine that has one",
                param="gpu_layers",
            )
        if request.gpu_layers is not None and request.gpu_layers > shape.block_count + 1:
            raise InvalidRequest(
                f"gpu_layers is {request.gpu_layers}, but the model has {shape.block_count} layers and its output",
                hint=f"0 to {shape.block_count + 1}",
                param="gpu_layers",
            )
        case = self._use_cases.get(request.use_case)
        most = shape.context_length or self._defaults.context_tokens
        usual = case.context_tokens if request.use_case is not None else self._defaults.context_tokens
        asked = most if request.context_tokens == "max" else request.context_tokens
        if asked is not None and not shape.encoder:
            check_length(request.rope, asked, shape.context_length)
        return Wish(
            use_case=case,
            context_tokens=asked if asked is not None else min(most, usual),
            slots=request.slots or self._defaults.slots,
            context_pinned=asked is not None,
            slots_pinned=request.slots is not None,
            kv_type=request.kv_type.lower() if request.kv_type else None,
            gpu_layers=request.gpu_layers,
            names=None if named is None else frozenset(named),
        )

    async def _scratch(
        self,
        facts: ModelFacts,
        settings: Sequence[Setting],
        site: Site,
        kinds: Sequence[str],
        *,
        pooled: bool,
        ubatch: int,
        flash_attention: bool | None = None,
    ) -> tuple[dict[tuple[Setting, Offload], Scratch], Answers]:
        """What contexts take: from llama.cpp where it knows the architecture, else from the formula."""
        if self._repacks is not None and site.real:
            self._repacks.prepare()  # it finds out while the oracle does
        devices = site.devices if site.real else ()
        points = points_of(
            settings,
            facts.shape,
            devices,
            ubatch_tokens=ubatch,
            pooled=pooled,
            flash_attention=flash_attention,
        )
        answers = await self._oracle.ask(facts.digest, facts.header, list(dict.fromkeys(points.values())), kinds)
        scratch = scratch_of(points, answers.buffers, devices, facts.shape.vocab_size)
        if not scratch:
            scratch = estimated_scratch(settings, facts.shape, ubatch_tokens=ubatch)
        if site.devices and (not site.real or all(told.estimated for told in scratch.values())):
            scratch = on_absent_devices(scratch, site.devices)
        return scratch, answers

    def _choose(
        self,
        request: PlanRequest,
        facts: ModelFacts,
        entries: Sequence[Entry],
        answers: Answers,
        site: Site,
        wish: Wish,
        scratch: Mapping[tuple[Setting, Offload], Scratch],
        copied: Sequence[Repacking],
    ) -> Judged:
        """The part that only computes; runs in a thread."""
        around = self._surroundings(facts, site, wish, scratch, self._defaults.ubatch_tokens)
        settings = tuple(dict.fromkeys(setting for setting, _ in scratch))
        offers = [
            offer_of(entry, facts, answers.mixes, repacking) for entry, repacking in zip(entries, copied, strict=True)
        ]
        candidates = [make_candidate(offer, settings, around) for offer in offers]
        choice = choose(
            candidates,
            site.budgets,
            wish,
            table=self._quality,
            architecture=facts.shape.architecture,
            busy=site.busy,
            unified=_unified(site),
        )
        files = {entry.name: entry.files for entry in entries}
        plan = make_plan(request.model, site, wish, choice, files, _refused(answers, scratch))
        plan = _naming_matrices(plan, answers.need_matrix)
        rope = resolved(request.rope, wish.context_tokens, facts.header)
        notes = long_context_notes(rope, wish.context_tokens, facts.shape.context_length)
        plan = replace(plan, rope=rope, notes=(*plan.notes, *notes))
        return Judged(plan, choice, idle_text(site) if _needs_idle(choice, site) else None)

    def _surroundings(
        self,
        facts: ModelFacts,
        site: Site,
        wish: Wish,
        scratch: Mapping[tuple[Setting, Offload], Scratch],
        ubatch_tokens: int,
    ) -> Surroundings:
        return Surroundings(
            shape=facts.shape,
            quality=self._quality,
            cpu=site.cpu,
            rooms={name: budget.budget_bytes for name, budget in site.budgets.items()},
            scratch=scratch,
            devices=site.devices,
            sequences=idle_sequences(facts.shape),
            ubatch_tokens=ubatch_tokens,
            overhead_bytes=overhead_bytes(facts.header, ubatch_tokens=ubatch_tokens),
            gpu_layers=wish.gpu_layers,
            beside_bytes=wish.beside_bytes,
            corrections=self._corrected(facts.shape.architecture, site) if site.real else {},
        )

    def _corrected(self, architecture: str, site: Site) -> dict[Offload, int]:
        names = [device.name for device in site.devices]
        ways: tuple[Offload, ...] = ("none", "partial", "full") if names else ("none",)
        return {
            offload: self._corrections.overhead_bytes(
                architecture, backend_of(names if offload != "none" else ()), offload
            )
            for offload in ways
        }

    async def _repacking(
        self, entries: Sequence[Entry], facts: ModelFacts, answers: Answers, site: Site
    ) -> list[Repacking]:
        """What engines here copy of each entry. Of other machines nothing is known, and nothing counted."""
        if self._repacks is None or not site.real:
            return [NO_REPACKING] * len(entries)
        kinds = await asyncio.to_thread(lambda: [tensor_types_of(one, facts, answers.mixes) for one in entries])
        known = await self._repacks.of({one for one in kinds if one})
        return [known.get(one, NO_REPACKING) for one in kinds]


def _naming_matrices(plan: Plan, need_matrix: Collection[str]) -> Plan:
    """The plan that says which of the variants to be made would need an importance matrix."""
    if not any(one.name in need_matrix and not one.exists for one in plan.variants):
        return plan
    variants = (
        replace(one, reason=f"{one.reason}; {_MATRIX}") if one.name in need_matrix and not one.exists else one
        for one in plan.variants
    )
    return replace(plan, variants=tuple(variants))


def _needs_idle(choice: Choice, site: Site) -> bool:
    """Whether what was chosen has no room beside the idle engines."""
    if choice.chosen is None or choice.chosen.option is None:
        return False
    claims = choice.chosen.option.claims(_unified(site))
    held = {name: sum(sizes.get(name, 0) for sizes in site.idle.values()) for name in claims}
    return any(held[name] and size + held[name] > site.budgets[name].budget_bytes for name, size in claims.items())


def _refused(answers: Answers, scratch: Mapping[tuple[Setting, Offload], Scratch]) -> str | None:
    """Why llama.cpp would not plan the model, when a formula had to."""
    if any(not told.estimated for told in scratch.values()):
        return None
    return next((reason for point, reason in answers.refusals.items() if isinstance(point, Point)), None)


def _unified(site: Site) -> frozenset[str]:
    """The accelerators without memory of their own."""
    return frozenset(device.name for device in site.devices if site.hardware.unified)


def _whole(size_bytes: int) -> Budget:
    """A budget of exactly so much."""
    return Budget(size_bytes, size_bytes, 0, 1.0)
