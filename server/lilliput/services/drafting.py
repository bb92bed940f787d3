"""Draft models: which ones can say ahead what another model says, and what they need beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lilliput.catalogue import InstalledModel
from lilliput.errors import InvalidRequest, LilliputError
from lilliput.fit import MemoryNeed, Shape, process_bytes
from lilliput.gguf import FileSource, Vocabulary, read_vocabulary
from lilliput.llama import Rope
from lilliput.pool import DraftPlan, LoadPlan
from lilliput.services.long_context import resolved
from lilliput.services.model_facts import ModelFacts, read_facts
from lilliput.services.plan_request import PlanRequest
from lilliput.services.planning import Planner
from lilliput.services.roles import role_of
from lilliput.services.tuning_choice import LoadChoices
from lilliput.services.variant_offers import Entry

_PARAM = "draft"
_SAME_FAMILY = "take a smaller model of the same family"

Resolve = Callable[[str], Awaitable[InstalledModel]]
"""The installed model that a name means; ModelNotFound."""


@dataclass(frozen=True, slots=True)
class _Draft:
    """A model that can draft for another one."""

    model: InstalledModel
    facts: ModelFacts
    smaller: bool


class Drafting:
    """Plans draft models beside loads."""

    def __init__(self, resolve: Resolve, planner: Planner) -> None:
        self._resolve = resolve
        self._planner = planner

    async def find(self, name: str, target: InstalledModel, facts: ModelFacts) -> _Draft:
        """The model of this name, if it can draft for ``target``.

        Raises ModelNotFound, BadFile, and InvalidRequest where one of both cannot forget tokens, it writes no text, or
        their vocabularies differ.
        """
        model = await self._resolve(name)
        found = await asyncio.to_thread(read_facts, [file.path for file in model.files])
        if role_of(found.header) != "generate":
            raise _refused(f"{model.name} writes no text, so it cannot draft", _SAME_FAMILY)
        for one, shape in ((target.name, facts.shape), (model.name, found.shape)):
            if reason := _cannot_forget(shape):
                raise _refused(
                    f"{model.name} cannot draft for {target.name}: {one} {reason}, so what was drafted in vain cannot "
                    "be taken back",
                    "load it without a draft model; repetitions are still drafted from where the model allows it",
                )
        difference = await asyncio.to_thread(_difference, target.path, facts, model.path, found)
        if difference is not None:
            raise _refused(f"{model.name} cannot draft for {target.name}: {difference}", _SAME_FAMILY)
        return _Draft(model, found, smaller=found.file_bytes < facts.file_bytes)

    async def beside(self, plan: LoadPlan, draft: _Draft, room: Mapping[str, int]) -> LoadPlan:
        """The plan with a draft model, in what it leaves of ``room``; its context is as long as that of the other."""
        left = {name: size - _total(plan.needs.get(name)) for name, size in room.items()}
        trained, stretched = draft.facts.shape.context_length, plan.terms.rope
        if stretched is None and trained is not None and plan.context_tokens > trained:
            stretched = Rope("none")  # beyond its training it errs more often, which costs speed alone
        request = PlanRequest(
            draft.model.name,
            context_tokens=plan.context_tokens,
            slots=plan.slots,
            kv_type=plan.kv_type,
            rope=stretched,
        )
        facts = draft.facts
        entry = Entry(draft.model.name, draft.model.quantization, (), facts.file_bytes, facts=facts)
        tuned = LoadChoices(ubatch_tokens=plan.ubatch_tokens, repack=plan.repack)
        found = await self._planner.to_load(request, facts, entry, left, named=True, tuned=tuned)
        option = found.option
        if option is None:
            raise _refused(f"{draft.model.name} cannot be loaded with {plan.kv_type} caches", "take another KV type")
        needs = dict(plan.needs)
        shared = process_bytes(0)  # both are in one process
        for name, alone in option.needs.items():
            need = replace(alone, overhead_bytes=max(0, alone.overhead_bytes - shared))
            needs[name] = needs[name] + need if name in needs else need
        rope = resolved(stretched, plan.context_tokens, facts.header)
        setting = option.setting
        return replace(
            plan,
            needs=needs,
            tensor_types=plan.tensor_types | facts.header.tensor_types,
            draft_note=None if draft.smaller else "it is not smaller than the model it drafts for: it will hardly pay",
            draft=DraftPlan(
                draft.model.name,
                str(draft.model.path),
                setting.gpu_layers,
                setting.cpu_expert_layers,
                option.tensor_split,
                rope,
            ),
        )


def without(plan: LoadPlan, error: LilliputError) -> LoadPlan:
    """The plan that goes on without a draft model, and says so."""
    return replace(plan, draft_note=error.message)


def _refused(message: str, hint: str) -> InvalidRequest:
    return InvalidRequest(message, hint=hint, param=_PARAM)


def _total(need: MemoryNeed | None) -> int:
    return 0 if need is None else need.total_bytes


def _cannot_forget(shape: Shape) -> str | None:
    """Why the end of a sequence cannot be taken back in the model's cache; None where it can."""
    if shape.recurrent_bytes:
        return "has recurrent layers"
    if any(layer.window_tokens is not None for layer in shape.layers):
        return "has attention with a sliding window"
    return None


def _difference(target: Path, facts: ModelFacts, draft: Path, its: ModelFacts) -> str | None:
    """In which way the vocabularies of two files differ."""
    return None if target == draft else _vocabulary(target, facts).difference(_vocabulary(draft, its))


def _vocabulary(path: Path, facts: ModelFacts) -> Vocabulary:
    with FileSource(path) as source:
        return read_vocabulary(source, facts.header, name=str(path))
