"""How installed models are loaded: on the terms agreed on, chosen as a plan would."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial

from lilliput.catalogue import InstalledModel
from lilliput.engine import Role
from lilliput.errors import BadFile, DoesNotFit, InvalidRequest, NotFound, StorageError
from lilliput.fit import RAM, Option
from lilliput.pool import NO_DRAFT, LoadPlan, Terms
from lilliput.services.agreements import ReadFacts, agreed, on_terms
from lilliput.services.drafting import Drafting, without
from lilliput.services.long_context import resolved
from lilliput.services.model_facts import ModelFacts, read_facts
from lilliput.services.plan_request import PlanDefaults, PlanRequest
from lilliput.services.planning import Planner, ToLoad
from lilliput.services.roles import check_role
from lilliput.services.settings_grid import idle_sequences
from lilliput.services.tuning_choice import LoadChoices, Tuning
from lilliput.services.variant_offers import Entry


class LoadPlans:
    """Plans the loads of installed models for the pool.

    ``tuned`` tells what was measured of a model's file here, and what somebody has chosen for it; ``drafting`` plans
    the models that draft.
    """

    def __init__(
        self,
        facts: ReadFacts,
        planner: Planner,
        defaults: PlanDefaults,
        tuned: Callable[[InstalledModel], Awaitable[Tuning]] | None = None,
        drafting: Drafting | None = None,
    ) -> None:
        self._facts = facts
        self._planner = planner
        self._defaults = defaults
        self._tuned = tuned
        self._drafting = drafting

    async def plan_load(
        self, model: InstalledModel, room: Mapping[str, int], role: Role = "generate", asked: Terms | None = None
    ) -> LoadPlan:
        """How the pool loads an installed model into ``room`` (bytes by device) for work of this role.

        What is ``asked`` goes before the terms of its pull, and both before the usual. Raises BadFile when it cannot be
        loaded, InvalidRequest when it is not made for this role or cannot be loaded on these terms, ModelNotFound for a
        draft model that is asked for, DoesNotFit when it would be below the floor of its use case.
        """
        facts = await asyncio.to_thread(read_facts, [file.path for file in model.files])
        check_role(model.name, facts.header, role)
        terms = await asyncio.to_thread(agreed, self._facts, model.name)
        terms = terms if asked is None else terms.after(asked)
        if role != "generate" and asked is not None and asked.draft not in (None, NO_DRAFT):
            raise InvalidRequest(f"{model.name} is not loaded to write text: nothing can be drafted", param="draft")
        plan = await self._alone(model, facts, room, role, terms)
        if role != "generate" or terms.draft in (None, NO_DRAFT) or self._drafting is None:
            return plan
        try:
            return await self._drafted(self._drafting, model, facts, room, plan)
        except (NotFound, InvalidRequest, BadFile, StorageError) as error:
            if asked is not None and asked.draft is not None:
                raise
            return without(plan, error)  # it was agreed on earlier, and service goes before speed

    async def _drafted(
        self,
        drafting: Drafting,
        model: InstalledModel,
        facts: ModelFacts,
        room: Mapping[str, int],
        plan: LoadPlan,
    ) -> LoadPlan:
        """The plan with the draft model of its terms; where both do not fit, with what is left beside that."""
        assert plan.terms.draft is not None
        draft = await drafting.find(plan.terms.draft, model, facts)
        both = await drafting.beside(plan, draft, room)
        if all(need.total_bytes <= room.get(name, 0) for name, need in both.needs.items()):
            return both
        taken = {name: need.total_bytes - _bytes_of(plan, name) for name, need in both.needs.items()}
        left = {name: max(0, size - taken.get(name, 0)) for name, size in room.items()}
        return await drafting.beside(await self._alone(model, facts, left, "generate", plan.terms), draft, room)

    async def _alone(
        self, model: InstalledModel, facts: ModelFacts, room: Mapping[str, int], role: Role, terms: Terms
    ) -> LoadPlan:
        """The plan without a draft model."""
        pooled = role != "generate"
        tuning = Tuning() if pooled or self._tuned is None else await self._tuned(model)
        choices = tuning.settings
        ubatch, flash = choices.ubatch_tokens or self._defaults.ubatch_tokens, choices.flash_attention
        ask = partial(
            self._planner.to_load,
            _request(model, terms, facts, pooled=pooled),
            facts,
            Entry(model.name, model.quantization, (), facts.file_bytes, facts=facts),
            room,
            named=terms.named or terms.use_case is None,
            pooled=pooled,
        )
        found = await ask(tuned=choices)
        if flash is False and not _fits_whole(found, room):
            choices = replace(choices, flash_attention=None)
            flash, found = None, await ask(tuned=choices)  # without it the scratch is larger: memory goes before speed
        option = _checked(model, terms, found, room)
        setting = option.setting
        if setting.gpu_layers:  # what was measured holds for the processor alone
            choices, flash = tuning.chosen, tuning.chosen.flash_attention
        if terms.slots is not None:  # none of those that were asked for waits, unless somebody has chosen so
            choices = replace(choices, width=tuning.chosen.width)
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
            offload=option.offload,
            rope=None if pooled else resolved(terms.rope, setting.context_tokens, facts.header),
            store_bytes=0 if pooled else _store_bytes(self._defaults.store_bytes, option, room),
            terms=terms,
            ways=tuple(f"it {way}" for way in found.verdict.near_misses),
        )
        return _chosen_for(plan, choices)


def _bytes_of(plan: LoadPlan, device: str) -> int:
    return plan.needs[device].total_bytes if device in plan.needs else 0


def _request(model: InstalledModel, terms: Terms, facts: ModelFacts, *, pooled: bool) -> PlanRequest:
    """What the planner is asked; contexts that embed have slots and a cache of their own kind."""
    request = on_terms(PlanRequest(model.name), terms)
    if not pooled:
        return request
    most, context = facts.shape.context_length, terms.context_tokens
    context = min(context, most) if context is not None and most is not None else context
    return replace(request, slots=None, kv_type=None, rope=None, context_tokens=context)


def _checked(model: InstalledModel, terms: Terms, found: ToLoad, room: Mapping[str, int]) -> Option:
    """The option, if there is one and the floor allows it."""
    option, verdict = found.option, found.verdict
    if option is None and verdict.candidate.options:
        raise InvalidRequest(f"{model.name} {verdict.reason}", hint="ask for less, or leave it to the plan")
    if option is None:
        raise BadFile(f"llama.cpp cannot load {model.name}", hint="is the file damaged, or newer than this build?")
    if found.below_floor and not terms.forced:
        raise DoesNotFit(
            f"{model.name}: {found.choice.summary}",
            need_bytes=option.total_bytes,
            budget_bytes=sum(room.get(name, 0) for name in option.needs),
            hint="pull a better variant, take another use case, or force it",
        )
    return option


def _chosen_for(plan: LoadPlan, choices: LoadChoices) -> LoadPlan:
    """The plan with what caches and scratch do not depend on."""
    mapped, locked = choices.memory_map is not False, bool(choices.memory_lock)
    needs = dict(plan.needs)
    if not mapped:
        needs[RAM] = needs[RAM].unmapped()
    elif locked:
        needs[RAM] = needs[RAM].locked()
    return replace(
        plan,
        needs=needs,
        threads=choices.threads or 0,
        batch_threads=choices.batch_threads or 0,
        width=choices.width or 0,
        repack=choices.repack is not False,
        memory_map=mapped,
        memory_lock=locked,
    )


def _fits_whole(found: ToLoad, room: Mapping[str, int]) -> bool:
    """Whether nothing of the context had to be given up."""
    option = found.option
    if option is None or option.setting.context_tokens < found.wish.context_tokens or not option.setting.plain_kv:
        return False
    return all(need.total_bytes <= room.get(name, 0) for name, need in option.needs.items())


def _store_bytes(wanted: int, option: Option, room: Mapping[str, int]) -> int:
    """What a store for prefixes may take: what was wanted, but no more than half of what the model leaves."""
    left = room.get(RAM, 0) - (option.needs[RAM].total_bytes if RAM in option.needs else 0)
    return max(0, min(wanted, left // 2))
