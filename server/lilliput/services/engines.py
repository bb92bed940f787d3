"""Engines by model name: what is loaded, load one ahead, stop one."""

from __future__ import annotations

import asyncio
from typing import Protocol

from lilliput.catalogue import InstalledModel
from lilliput.pool import EngineInfo, Pool
from lilliput.services.model_facts import read_facts
from lilliput.services.roles import role_of


class ModelResolver(Protocol):
    """Finds installed models."""

    async def resolve(self, name: str) -> InstalledModel:
        """The installed model a name means; ModelNotFound."""
        ...


class Engines:
    """The pool as people see it: names instead of installed models."""

    def __init__(self, models: ModelResolver, pool: Pool) -> None:
        self._models = models
        self._pool = pool

    def list(self) -> tuple[EngineInfo, ...]:
        """All engines, loading ones too."""
        return self._pool.list()

    async def load(self, model: str, *, force: bool = False) -> EngineInfo:
        """Load a model ahead of its first request, for what it was made for; returns at once when it is loaded.

        Errors as a generation's.
        """
        installed = await self._models.resolve(model)
        facts = await asyncio.to_thread(read_facts, [file.path for file in installed.files])
        role = role_of(facts.header)
        lease = await self._pool.lease(installed, force=force, role=role)
        lease.release()
        return next(one for one in self._pool.list() if one.model == installed.name and one.role == role)

    async def unload(self, name: str) -> bool:
        """End a model's engines, busy or not; False when it had none. ModelNotFound for an unknown name.

        The name of a loaded engine always works, even when its model was removed in the meantime.
        """
        if self._pool.find(name) is not None:
            return await self._pool.unload(name)
        installed = await self._models.resolve(name)
        return await self._pool.unload(installed.name)
