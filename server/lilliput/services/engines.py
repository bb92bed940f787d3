"""Engines by model name: what is loaded, load one ahead, stop one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Protocol

from lilliput.catalogue import InstalledModel
from lilliput.errors import LilliputError
from lilliput.pool import EngineInfo, MemoryNow, Pool, Step, Terms
from lilliput.services.agreements import Facts, agree
from lilliput.services.model_facts import read_facts
from lilliput.services.pins import pinned, set_pin
from lilliput.services.roles import role_of
from lilliput.services.stand_ins import StandIns
from lilliput.services.targets import names_variant
from lilliput.services.tuning_choice import Trial, Tuning
from lilliput.services.tunings import Tunings

log = logging.getLogger(__name__)


class ModelResolver(Protocol):
    """Finds installed models."""

    async def resolve(self, name: str) -> InstalledModel:
        """The installed model a name means; ModelNotFound."""
        ...


@dataclass(frozen=True, slots=True)
class Memory(MemoryNow):
    """What the watch saw last, and what engines gave up and got back, the latest last."""

    steps: tuple[Step, ...] = ()


class Engines:
    """The pool as people see it: names instead of installed models."""

    def __init__(self, models: ModelResolver, pool: Pool, tunings: Tunings, facts: Facts, stand_ins: StandIns) -> None:
        self._models = models
        self._pool = pool
        self._tunings = tunings
        self._facts = facts
        self._stand_ins = stand_ins

    def list(self) -> tuple[EngineInfo, ...]:
        """All engines, loading ones too, and those that failed of late; what stands in for another variant says so."""
        shown = (*self._pool.list(), *self._pool.failed())
        return tuple(replace(one, degraded=(*one.degraded, *self._stand_ins.given_up(one.model))) for one in shown)

    def memory(self) -> Memory:
        """Whether memory is short, and the latest that was given up for it or came back."""
        return Memory(**asdict(self._pool.relief.now), steps=self._pool.steps.latest)

    async def load(self, model: str, asked: Terms | None = None, *, keep_alive_s: float | None = None) -> EngineInfo:
        """Load a model ahead of its first request, for what it was made for; returns at once when it is loaded.

        Where it cannot be loaded, and neither its variant nor terms were asked for, one that stands in for it is.
        What is ``asked`` holds for all later loads, too, ``keep_alive_s`` for this engine. Errors as a generation's;
        Busy where other terms would have to end an engine that is in use.
        """
        installed = await self._models.resolve(model)
        if asked is not None:
            asked = replace(asked, named=names_variant(model))
        facts = await asyncio.to_thread(read_facts, [file.path for file in installed.files])
        role = role_of(facts.header)
        self._pool.forgive(installed.name)
        load = partial(self._pool.lease, role=role, asked=asked, keep_alive_s=keep_alive_s)
        if role == "generate":
            binding = asked is not None and asked.binding
            lease = await self._stand_ins.lease(installed, load, replaceable=not (binding or names_variant(model)))
        else:
            lease = await load(installed)
        try:
            if asked is not None:
                await asyncio.to_thread(agree, self._facts, installed.name, asked)
        finally:
            lease.release()
        return next(one for one in self.list() if one.model == lease.model.name and one.role == role)

    async def tune(self, model: str, *, seconds: float | None = None) -> AsyncIterator[Trial | Tuning]:
        """Measure which settings are fastest for a model here: gives each trial, again when more of it is known, and
        at last what came of them, in about so many seconds. Its next load uses that, and an idle engine makes way.

        Raises ModelNotFound; the iterator DoesNotFit, EngineError. Closing it stops the measurement.
        """
        return self._tune(await self._models.resolve(model), seconds)

    async def tuning(self, model: str) -> Tuning:
        """What was measured and chosen for a model; ModelNotFound."""
        return await self._tunings.of(await self._models.resolve(model))

    async def choose(self, model: str, changes: Mapping[str, bool | int | None] | None) -> Tuning:
        """Choose settings of a model's loads (see ``Tunings.choose``); an idle engine makes way. ModelNotFound."""
        installed = await self._models.resolve(model)
        tuning = await self._tunings.choose(installed, changes)
        await self._end_idle(installed)
        return tuning

    async def _tune(self, installed: InstalledModel, seconds: float | None) -> AsyncIterator[Trial | Tuning]:
        heard: asyncio.Queue[Trial | None] = asyncio.Queue()
        tuned = asyncio.create_task(self._tunings.tune(installed, heard.put_nowait, seconds=seconds))
        tuned.add_done_callback(lambda _: heard.put_nowait(None))
        try:
            while (trial := await heard.get()) is not None:
                yield trial
            tuning = tuned.result()
        finally:
            tuned.cancel()
            await asyncio.gather(tuned, return_exceptions=True)
        await self._end_idle(installed)
        yield tuning

    async def _end_idle(self, installed: InstalledModel) -> None:
        engines = [one for one in self._pool.list() if one.model == installed.name]
        if all(one.state == "ready" and not one.active and not one.waiting for one in engines):
            await self._pool.unload(installed.name)

    async def unload(self, name: str, *, drain: bool = False) -> bool:
        """End a model's engines, busy or not, unless they ``drain``; False when it had none. ModelNotFound for an
        unknown name.

        The name of a loaded engine always works, even when its model was removed in the meantime.
        """
        if self._pool.find(name) is not None:
            return await self._pool.unload(name, drain=drain)
        installed = await self._models.resolve(name)
        return await self._pool.unload(installed.name, drain=drain)

    async def pin(self, name: str, *, on: bool) -> str:
        """Keep a model in memory, from now on and after a restart, or no longer; returns its canonical name.

        It is not loaded by this. ModelNotFound.
        """
        installed = await self._models.resolve(name)
        self._pool.pin(await asyncio.to_thread(set_pin, self._facts, installed.name, on=on))
        return installed.name

    async def load_pinned(self) -> None:
        """Pin what was pinned before, and load it, one after the other; what cannot be loaded is told to the log."""
        names = await asyncio.to_thread(pinned, self._facts)
        self._pool.pin(names)
        for name in sorted(names):
            try:
                await self.load(name)
            except LilliputError as error:
                log.warning("%s is pinned, but could not be loaded: %s", name, error)
