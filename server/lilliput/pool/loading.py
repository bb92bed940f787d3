"""What loading a model takes: its context, its memory and the kinds of tensors in it, read from the file's header."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from lilliput.catalogue import InstalledModel
from lilliput.fit import MemoryNeed, estimate_need, shape_of
from lilliput.gguf import FileSource, read_header


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """How a model will be loaded: ``context_tokens`` shared by ``slots`` sequences, and what that needs."""

    context_tokens: int
    slots: int
    need: MemoryNeed
    tensor_types: frozenset[str]


async def plan_load(model: InstalledModel, *, context_tokens: int, slots: int) -> LoadPlan:
    """The plan for ``model`` with at most ``context_tokens``; raises BadFile for a file that cannot be loaded."""
    return await asyncio.to_thread(_plan, model, context_tokens, slots)


def _plan(model: InstalledModel, context_tokens: int, slots: int) -> LoadPlan:
    with FileSource(model.path) as source:
        header = read_header(source)
    shape = shape_of(header)
    context = min(context_tokens, shape.context_length or context_tokens)
    need = estimate_need(shape, model.size_bytes, context, slots)
    return LoadPlan(context, slots, need, frozenset(header.tensor_types))
