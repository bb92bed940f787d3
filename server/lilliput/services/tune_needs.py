"""What measuring a file takes beside what is loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from lilliput.catalogue import InstalledModel
from lilliput.errors import BadFile
from lilliput.fit import RAM, MemoryNeed
from lilliput.llama import TUNE_CONTEXTS, TUNE_WIDTHS
from lilliput.services.model_facts import read_facts
from lilliput.services.plan_request import PlanRequest
from lilliput.services.planning import Planner
from lilliput.services.tuning_choice import LoadChoices
from lilliput.services.variant_offers import Entry

_ALL_THERE_IS = 1 << 60


async def tune_needs(
    planner: Planner, model: InstalledModel, context_tokens: int, copies: int
) -> Mapping[str, MemoryNeed]:
    """Main memory for so many copies of the weights and for the contexts that are open at once. Without flash attention
    scratch is largest: that is asked about.

    Raises BadFile, NotFound, StorageError.
    """
    facts = await asyncio.to_thread(read_facts, [file.path for file in model.files])
    entry = Entry(model.name, model.quantization, (), facts.file_bytes, facts=facts)
    room = {RAM: _ALL_THERE_IS}
    request = PlanRequest(model.name, context_tokens=context_tokens, slots=TUNE_WIDTHS[-1])
    found = await planner.to_load(request, facts, entry, room, named=True, tuned=LoadChoices(flash_attention=False))
    if found.option is None:
        raise BadFile(f"llama.cpp cannot load {model.name}", hint="is the file damaged, or newer than this build?")
    one = found.option.needs[RAM]
    scratch = one.compute_bytes * TUNE_CONTEXTS
    return {RAM: MemoryNeed(one.weights_bytes * copies, one.kv_bytes * TUNE_CONTEXTS, scratch, one.overhead_bytes)}
