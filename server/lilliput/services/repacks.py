"""Which weights engines copy into buffers of their own on this machine: asked of llama.cpp once and remembered."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from lilliput.engine import rungs_from, verdict_key
from lilliput.errors import StorageError
from lilliput.fit import NO_REPACKING, Repacking
from lilliput.llama import Rung
from lilliput.llama.repack import ask_repacking
from lilliput.services.oracle import Facts

log = logging.getLogger(__name__)

_VERSION = 2


async def _ask(rung: Rung) -> Mapping[str, Any] | None:
    return await ask_repacking(rung=rung)


class Copying(Protocol):
    """What is known of the copies that engines make of weights on this machine."""

    def prepare(self) -> None:
        """Begin to find out, for somebody who is about to ask."""
        ...

    async def of(self, kinds: Collection[frozenset[str]]) -> Mapping[frozenset[str], Repacking]:
        """What is repacked of files with these sets of tensor types."""
        ...


class Repacks:
    """Answers by rung of safe settings, kept in ``facts`` for one machine and build; used from one event loop.

    ``rungs`` are those of this machine, fastest first. ``ask`` has a child find the answer. Where that crashes (None)
    the next rung is asked, as engines do, and its answer kept; TimeoutError when the child was too slow.
    """

    def __init__(
        self,
        facts: Facts,
        machine: str,
        build: str,
        rungs: Sequence[Rung],
        ask: Callable[[Rung], Awaitable[Mapping[str, Any] | None]] = _ask,
    ) -> None:
        self._facts = facts
        self._machine = machine
        self._build = build
        self._rungs = tuple(rungs)
        self._ask = ask
        self._known: dict[Rung, asyncio.Task[Repacking]] = {}

    async def of(self, kinds: Collection[frozenset[str]]) -> dict[frozenset[str], Repacking]:
        """What an engine copies of files with these sets of tensor types.

        It starts on the rung that held for such a file before, else on the fastest that computes here.
        """
        rungs = await asyncio.to_thread(self._rungs_of, kinds)
        return {types: await self._answer(rung) for types, rung in rungs.items()}

    def _rungs_of(self, kinds: Collection[frozenset[str]]) -> dict[frozenset[str], Rung]:
        found = {}
        for types in kinds:
            held = self._facts.get_fact(verdict_key(self._machine, self._build, types))
            found[types] = next((rung for rung in self._rungs if rung == held), self._rungs[0])
        return found

    def prepare(self) -> None:
        """Begin to ask about the fastest rung; nothing where that was done before."""
        self._asking(self._rungs[0])

    def _asking(self, rung: Rung) -> asyncio.Task[Repacking]:
        task = self._known.get(rung)
        if task is None:
            task = self._known[rung] = asyncio.create_task(self._find(rung))
        return task

    async def _answer(self, rung: Rung) -> Repacking:
        try:
            return await asyncio.shield(self._asking(rung))  # one who goes away does not end it for the others
        except StorageError:
            self._known.pop(rung, None)  # what the store could not say once is asked for again
            raise

    async def _find(self, rung: Rung) -> Repacking:
        key = f"repack/{_VERSION}/{self._machine}/{self._build}/{rung}"
        stored = await asyncio.to_thread(self._facts.get_fact, key)
        if stored is not None:
            return Repacking.from_mapping(msgspec.json.decode(stored))
        with contextlib.suppress(TimeoutError):
            for safer in rungs_from(rung, self._rungs):
                answer = await self._ask(safer)
                if answer is not None:
                    await asyncio.to_thread(self._facts.set_fact, key, msgspec.json.encode(answer).decode())
                    return Repacking.from_mapping(answer)
        log.warning("llama.cpp did not say which weights it repacks (%s): plans count none", rung)
        return NO_REPACKING

    async def aclose(self) -> None:
        """Stop asking."""
        for task in self._known.values():
            task.cancel()
        await asyncio.gather(*self._known.values(), return_exceptions=True)
