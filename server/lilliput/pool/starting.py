"""Starting an engine: what it is told, and the safe settings that are tried until one holds."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from msgspec import structs

from lilliput.catalogue import InstalledModel
from lilliput.engine import (
    PROVING_TOKENS,
    Draft,
    Engine,
    PrefixDisk,
    SpareWorker,
    Start,
    Verdicts,
    climb_down,
    crashed,
    verdict_key,
)
from lilliput.errors import EngineDied, EngineLoadFailed
from lilliput.llama import RUNGS, ModelSettings, Rung
from lilliput.pool.loading import DraftPlan, LoadPlan
from lilliput.pool.proof import Proof, digest_of
from lilliput.pool.resident import Loaded, key_of
from lilliput.pool.settings import PoolSettings

log = logging.getLogger(__name__)


class Starter(Protocol):
    """Starts the engine of one load, more than one after the other where the first ones fail."""

    def prepare(self) -> None:
        """Begin with what does not depend on the plan."""
        ...

    async def start(self, model: InstalledModel, plan: LoadPlan, on_engine: Callable[[Engine], None]) -> Loaded:
        """An engine by ``plan``; ``on_engine`` gets each that is tried, before it starts.

        Raises EngineDied, EngineLoadFailed.
        """
        ...

    async def aclose(self) -> None:
        """Put away what was prepared in vain."""
        ...


class EngineStarter:
    """Starts workers, each on the fastest safe settings that hold."""

    def __init__(self, settings: PoolSettings, verdicts: Verdicts) -> None:
        self._settings = settings
        self._verdicts = verdicts
        self._spare = SpareWorker()

    def prepare(self) -> None:
        """Begin to start a worker."""
        self._spare.prepare()

    async def start(self, model: InstalledModel, plan: LoadPlan, on_engine: Callable[[Engine], None]) -> Loaded:
        """As in ``Starter``: EngineLoadFailed, too, when it crashed on the safest settings; else EngineDied."""
        settings, spare = self._settings, self._spare
        began = time.monotonic()
        proof = Proof(self._verdicts, key_of(model.name, plan.role), f"{settings.machine}/{settings.build}")

        async def attempt(rung: Rung, proven: bool) -> Loaded:
            start = start_message(model, plan, settings, rung)
            digest = await asyncio.to_thread(digest_of, start, [file.path for file in model.files])
            start = structs.replace(start, warm_tokens=1 if proven and proof.holds(digest) else PROVING_TOKENS)
            engine = Engine(start, stall_s=settings.stall_s)
            on_engine(engine)
            worker = spare.take()
            if not proven and settings.rungs == RUNGS and rung == RUNGS[0]:
                spare.prepare()  # a processor with AMX: this one may well crash
            ready = await engine.start(worker)
            proof.note(digest)
            return Loaded(engine, ready, rung, time.monotonic() - began)

        def on_crash(rung: Rung, error: EngineDied) -> None:
            log.warning("%s crashed with %s settings, trying safer ones: %s", model.name, rung, error)

        key = verdict_key(settings.machine, settings.build, plan.tensor_types)
        try:
            loaded, _ = await climb_down(attempt, key, self._verdicts, on_crash, settings.rungs)
        except (EngineDied, EngineLoadFailed) as error:
            log.warning("%s could not be loaded: %s %s", model.name, error, " | ".join(error.log_tail[-5:]))
            if not (isinstance(error, EngineDied) and crashed(error)):
                raise
            raise EngineLoadFailed(  # the next one would crash as well: nobody need try again
                f"{error.message} while it loaded the file, with the safest settings, too",
                hint="the file may be damaged or too new: take another one; the daemon's log has its last lines",
                log_tail=error.log_tail,
            ) from error
        return loaded

    async def aclose(self) -> None:
        """End a worker that nobody took."""
        await self._spare.aclose()


def start_message(model: InstalledModel, plan: LoadPlan, settings: PoolSettings, rung: Rung) -> Start:
    """What an engine is told to load ``model`` by ``plan``, and to prove that it can compute."""
    return Start(
        ModelSettings(
            str(model.path),
            gpu_layers=plan.gpu_layers,
            rung=rung if plan.repack else RUNGS[-1],
            memory_map=plan.memory_map,
            memory_lock=plan.memory_lock,
            cpu_expert_layers=plan.cpu_expert_layers,
            tensor_split=plan.tensor_split,
        ),
        plan.context(settings.threads),
        plan.running,
        PROVING_TOKENS,
        settings.gap_s,
        plan.store_bytes,
        role=plan.role,
        disk=_prefix_disk(model, settings) if plan.role == "generate" else None,
        draft=None if plan.draft is None else _draft(plan.draft, plan, settings, rung),
    )


def _draft(draft: DraftPlan, plan: LoadPlan, settings: PoolSettings, rung: Rung) -> Draft:
    """The draft model, on the rung of the other one: a process has but one."""
    model = ModelSettings(
        draft.path,
        gpu_layers=draft.gpu_layers,
        rung=rung if plan.repack else RUNGS[-1],
        cpu_expert_layers=draft.cpu_expert_layers,
        tensor_split=draft.tensor_split,
    )
    return Draft(model, replace(plan.context(settings.threads), rope=draft.rope))


def _prefix_disk(model: InstalledModel, settings: PoolSettings) -> PrefixDisk | None:
    if not settings.prefix_disk_bytes:
        return None
    files = tuple(str(file.path) for file in model.files)
    return PrefixDisk(settings.prefix_folder, settings.prefix_disk_bytes, settings.build, files)
