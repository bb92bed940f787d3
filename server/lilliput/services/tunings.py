"""Which settings of a load are fastest for one file on this machine: measured once, kept, used by later loads."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Protocol, TypeVar

import msgspec

from lilliput.catalogue import InstalledModel
from lilliput.engine import rungs_from, verdict_key
from lilliput.errors import DoesNotFit, EngineError, LilliputError
from lilliput.fit import MemoryNeed
from lilliput.llama import TUNE_ROOMS, Rung, TuneRequest
from lilliput.services.model_facts import ModelFacts, read_facts
from lilliput.services.oracle import Facts
from lilliput.services.probe_child import measure, quiet
from lilliput.services.roles import check_role
from lilliput.services.tuning_choice import LoadChoices, Trial, Tuning, decide

log = logging.getLogger(__name__)

TUNE_S = 30.0
_TIMEOUT_S = 900.0
"""Of a child as a whole: a large file may take minutes to load, more than once. It watches its own time then."""

_QUIET_S = 5.0
_LEAST_SHARE = 0.85
_OTHERS_S = 60.0
_MOST_ATTEMPTS = 5

T = TypeVar("T")
Line = Mapping[str, Any]
OnTrial = Callable[[Trial], None]


class Reserve(Protocol):
    """The ledger of memory; see ``Pool.reserve``."""

    def __call__(self, key: str, needs: Mapping[str, MemoryNeed], *, evict: bool) -> AbstractAsyncContextManager[None]:
        """Keep memory for as long as the block lasts; DoesNotFit where there is no room."""
        ...


@dataclass(frozen=True, slots=True)
class TuneSite:
    """Where tunings hold, and what they need: the safe settings of this machine, fastest first; numbers of threads, the
    usual one first, for passes of one token and for all others; the memory that measuring a model takes with contexts
    of so many tokens and so many copies of its weights.
    """

    machine: str
    build: str
    rungs: tuple[Rung, ...]
    threads: tuple[int, ...]
    batch_threads: tuple[int, ...]
    needs: Callable[[InstalledModel, int, int], Awaitable[Mapping[str, MemoryNeed]]]
    reserve: Reserve


class Tunings:
    """Owner of what is known by file, for one machine and build; used from one event loop.

    ``busy`` tells whether an engine computes: what is measured in the background gives way. Nothing is measured for
    which the ledger has no room; in the background it waits until an engine has gone.
    """

    def __init__(self, facts: Facts, site: TuneSite, busy: Callable[[], bool], *, probing: bool = True) -> None:
        self._facts = facts
        self._site = site
        self._busy = busy
        self._may_probe = probing
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._lock = asyncio.Lock()
        self._asked = 0
        self._giving_way = asyncio.Event()
        self._giving_way.set()

    async def of(self, model: InstalledModel) -> Tuning:
        """What was measured of a model's file and what somebody has chosen for the model."""
        kept = await self._kept(await self._key(model))
        chosen = await self._recall(_chosen_key(model), LoadChoices)
        return replace(kept or Tuning(), chosen=chosen or LoadChoices())

    async def choose(self, model: InstalledModel, changes: Mapping[str, bool | int | None] | None) -> Tuning:
        """Choose settings of a model's loads, whatever was measured; None leaves one to the measurement, and no mapping
        leaves all.
        """
        tuning = await self.of(model)
        chosen = LoadChoices() if changes is None else replace(tuning.chosen, **changes)  # type: ignore[arg-type]
        await self._remember(_chosen_key(model), chosen)
        return replace(tuning, chosen=chosen)

    def want(self, model: InstalledModel, rung: Rung) -> None:
        """Measure a model in the background, when nothing has computed for a while, unless that was done.

        ``rung`` are the safe settings that its engine runs with.
        """
        name = f"{model.name}/{model.size_bytes}"
        if self._may_probe and name not in self._tasks:
            self._tasks[name] = asyncio.create_task(self._in_background(model, rung))

    async def tune(
        self, model: InstalledModel, on_trial: OnTrial | None = None, *, seconds: float | None = None
    ) -> Tuning:
        """Measure a model now, for about so many seconds; ``on_trial`` hears of each setting, again when more of it is
        known.

        Raises DoesNotFit, EngineError when nothing came of it, and what ``of`` raises; what was known is kept then.
        """
        facts = await _read(model)
        check_role(model.name, facts.header, "generate")
        key = verdict_key(self._site.machine, self._site.build, facts.header.tensor_types)
        known = await asyncio.to_thread(self._facts.get_fact, key)
        found: list[dict[str, Any]] | None = None
        self._asked += 1  # what is measured in the background gives way
        try:
            async with self._lock, self._room(model, evict=True) as room:
                for rung in rungs_from(known, self._site.rungs):
                    found = await self._measure(model, rung, room, on_trial=on_trial, seconds=seconds)
                    if found:
                        break
        finally:
            self._asked -= 1
        if not found:
            raise EngineError(
                f"{model.name} could not be measured", hint="load it first: the daemon's log tells what goes wrong"
            )
        await self._keep(model, found)
        return await self.of(model)

    async def make_way(self) -> None:
        """Return when nothing is measured in the background; to be called when ``busy`` says so."""
        await self._giving_way.wait()

    async def aclose(self) -> None:
        """Stop measuring."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _in_background(self, model: InstalledModel, rung: Rung) -> None:
        try:
            kept = await self._kept(await self._key(model))
            if kept is not None and not kept.disturbed:
                return
            for _ in range(_MOST_ATTEMPTS):
                lines = await self._when_quiet(model, rung)
                if lines is not None and not _disturbed(lines):
                    told = _told(await self._keep(model, lines)) if lines else "nothing came of it"
                    log.info("%s was measured here: %s", model.name, told)
                    return
                await asyncio.sleep(0 if lines is None else _OTHERS_S)
        except LilliputError as error:
            log.warning("%s could not be measured: %s", model.name, error)

    async def _when_quiet(self, model: InstalledModel, rung: Rung) -> list[dict[str, Any]] | None:
        """What was measured once there was quiet and room for it; None when an engine wanted the cores.

        A file that nothing can be learned of counts as measured, so that later daemons do not try again.
        """
        while True:
            await quiet(self._yields, _QUIET_S)
            with suppress(DoesNotFit):
                async with self._lock:
                    return await self._beside_engines(model, rung)
            log.debug("%s is measured when there is room for it", model.name)
            await asyncio.sleep(_OTHERS_S)

    async def _beside_engines(self, model: InstalledModel, rung: Rung) -> list[dict[str, Any]] | None:
        try:
            async with self._room(model, evict=False) as room:
                self._giving_way.clear()
                lines = await self._measure(model, rung, room, busy=self._yields)
        finally:
            self._giving_way.set()
        if lines is not None and not lines:
            await self._keep(model, ())
        return lines

    def _yields(self) -> bool:
        return self._asked > 0 or self._busy()

    @asynccontextmanager
    async def _room(self, model: InstalledModel, *, evict: bool) -> AsyncIterator[tuple[int, int]]:
        """The best of ``TUNE_ROOMS`` that the ledger has left, which is kept meanwhile; DoesNotFit when none is."""
        async with AsyncExitStack() as stack:
            for room in TUNE_ROOMS:
                needs = await self._site.needs(model, *room)
                try:
                    reserved = self._site.reserve(f"measuring {model.name}", needs, evict=evict)
                    await stack.enter_async_context(reserved)
                    break
                except DoesNotFit:
                    if room == TUNE_ROOMS[-1]:
                        raise
            yield room

    async def _measure(
        self,
        model: InstalledModel,
        rung: Rung,
        room: tuple[int, int],
        *,
        busy: Callable[[], bool] | None = None,
        on_trial: OnTrial | None = None,
        seconds: float | None = None,
    ) -> list[dict[str, Any]] | None:
        """The lines of a child (see ``llama/tune_probe.py``); None when an engine wanted the cores."""
        site = self._site
        request = TuneRequest(str(model.path), site.threads, site.batch_threads, rung, *room, seconds=seconds or TUNE_S)

        def hear(line: dict[str, Any]) -> None:
            if on_trial is not None:
                on_trial(_trial(line))

        return await measure(("lilliput.llama.tune_probe",), msgspec.json.encode(request), _TIMEOUT_S, busy, hear)

    async def _keep(self, model: InstalledModel, lines: Sequence[Line]) -> Tuning:
        trials = _trials(lines)
        disturbed = _disturbed(lines)
        tuning = Tuning(LoadChoices() if disturbed else decide(trials), trials=trials, disturbed=disturbed)
        await self._remember(await self._key(model), tuning)
        return tuning

    async def _kept(self, key: str) -> Tuning | None:
        return await self._recall(key, Tuning)

    async def _recall(self, key: str, kind: type[T]) -> T | None:
        text = await asyncio.to_thread(self._facts.get_fact, key)
        try:
            return None if text is None else msgspec.json.decode(text, type=kind)
        except msgspec.ValidationError:  # as an earlier version has written it
            return None

    async def _remember(self, key: str, value: Tuning | LoadChoices) -> None:
        await asyncio.to_thread(self._facts.set_fact, key, msgspec.json.encode(value).decode())

    async def _key(self, model: InstalledModel) -> str:
        """For what it holds: speed depends on shapes and types of the tensors, not on their numbers."""
        facts = await _read(model)
        tensors = [(tensor.name, tensor.shape, tensor.type.name) for tensor in facts.header.tensors]
        digest = hashlib.sha256(repr((facts.digest, facts.file_bytes, tensors)).encode()).hexdigest()[:32]
        site = self._site
        return f"tune/2/{site.machine}/{site.build}/{site.threads[0]}-{len(site.threads)}/{digest}"


async def _read(model: InstalledModel) -> ModelFacts:
    return await asyncio.to_thread(read_facts, [file.path for file in model.files])


def _chosen_key(model: InstalledModel) -> str:
    return f"tune-chosen/1/{model.name}"


def _trials(lines: Sequence[Line]) -> tuple[Trial, ...]:
    """What was told last of each setting, in the order of their first lines."""
    found: dict[tuple[object, ...], Trial] = {}
    for line in lines:
        trial = _trial(line)
        setting = (trial.flash_attention, trial.threads, trial.batch_threads, trial.ubatch_tokens)
        found[*setting, trial.repack, trial.memory_map] = trial
    return tuple(found.values())


def _trial(line: Line) -> Trial:
    def rates(seconds: Sequence[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
        return tuple((count, 1 / token_s) for count, token_s in seconds)

    return Trial(
        flash_attention=line["flash_attention"],
        threads=line["threads"],
        batch_threads=line["batch_threads"],
        ubatch_tokens=line["ubatch_tokens"],
        repack=line["repack"],
        memory_map=line["memory_map"],
        tokens_per_s=rates(line["decode_s"]),
        prompt_tokens_per_s=None if line["prompt_token_s"] is None else 1 / line["prompt_token_s"],
        wide_tokens_per_s=rates(line["wide_token_s"]),
    )


def _disturbed(lines: Sequence[Line]) -> bool:
    shares = [float(line["busy"]) for line in lines if line["busy"] is not None]
    return bool(shares) and median(shares) < _LEAST_SHARE


def _told(tuning: Tuning) -> str:
    chosen = msgspec.to_builtins(tuning.measured)
    parts = [f"{name} {value}" for name, value in chosen.items() if value is not None]
    return ", ".join(parts) or "the usual settings are the fastest"
