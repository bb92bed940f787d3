"""Engines by model name: what is loaded, load one ahead, stop one."""

from __future__ import annotations

import asyncio
from typing import Protocol

from lilliput.catalogue import InstalledModel
from lilliput.pool import EngineInfo, Pool
from lilliput.services.model_facts import read_facts
from lilliput.services.roles import role_of
from lilliput.services.tunings import Tuning, Tunings


class ModelResolver(Protocol):
    """Finds installed models."""

    async def resolve(self, name: str) -> InstalledModel:
        """The installed model a name means; ModelNotFound."""
        ...


class Engines:
    """The pool as people see it: names instead of installed models."""

    def __init__(self, models: ModelResolver, pool: Pool, tunings: Tunings) -> None:
        self._models = models
        self._pool = pool
        self._tunings = tunings

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

    async def tune(self, model: str) -> Tuning:
        """Measure which settings are fastest for a model here; its next load uses them, and an idle engine makes way.

        Raises ModelNotFound, EngineError.
        """
        installed = await self._models.resolve(model)
        tuning = await self._tunings.tune(installed)
        engine = self._pool.find(installed.name)
        if engine is not None and not engine.active and not engine.waiting:
            await self._pool.unload(installed.name)
        return tuning

    async def unload(self, name: str) -> bool:
        """End a model's engines, busy or not; False when it had none. ModelNotFound for an unknown name.

        The name of a loaded engine always works, even when its model was removed in the meantime.
        """
        if self._pool.find(name) is not None:
            return await self._pool.unload(name)
        installed = await self._models.resolve(name)
        return await self._pool.unload(installed.name)
