"""Engines by model name: what is loaded, load one ahead, stop one."""

from __future__ import annotations

from typing import Protocol

from lilliput.catalogue import InstalledModel
from lilliput.pool import EngineInfo, Pool


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
        """Load a model ahead of its first request; returns at once when it is loaded. Errors as a generation's."""
        installed = await self._models.resolve(model)
        lease = await self._pool.lease(installed, force=force)
        lease.release()
        return next(engine for engine in self._pool.list() if engine.model == installed.name)

    async def unload(self, name: str) -> bool:
        """End a model's engine, busy or not; False when it had none. ModelNotFound for an unknown name.

        The name of a loaded engine always works, even when its model was removed in the meantime.
        """
        if self._pool.find(name) is not None:
            return await self._pool.unload(name)
        installed = await self._models.resolve(name)
        return await self._pool.unload(installed.name)
