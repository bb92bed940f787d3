"""Watches memory once a second while engines serve, and has memory given back where it is short."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from lilliput.errors import LilliputError
from lilliput.hardware import Pressure
from lilliput.pool.pressure import Advice, Judge
from lilliput.pool.relief import MemoryNow, Relief
from lilliput.pool.steps import Steps

log = logging.getLogger(__name__)

INTERVAL_S = 1.0

LOW_SHARE = 0.5
"""Memory is short where less than this part of what is left to others is available: loads stop at the whole of it, so
somebody else has taken the rest."""


class MemoryWatch:
    """Looks once every ``interval_s``; ``reserve_bytes`` of memory are to be left to others.

    ``read`` is called in a thread of its own: a reading waits for the kernel, and most of all when memory is short, and
    it must not wait for other work in threads.
    """

    def __init__(
        self,
        read: Callable[[], Pressure],
        relief: Relief,
        steps: Steps,
        reserve_bytes: int,
        *,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._read = read
        self._relief = relief
        self._steps = steps
        self._interval_s = interval_s
        self._judge = Judge(int(reserve_bytes * LOW_SHARE))
        self._stuck = False
        self._thread = ThreadPoolExecutor(1, "memory-watch")
        self._watching: asyncio.Task[None] | None = None
        self._stepping: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._watching = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except (OSError, LilliputError) as error:  # the next look may find more
                log.warning("memory could not be watched: %s", error)
            await asyncio.sleep(self._interval_s)

    async def look(self) -> None:
        """One look, and what comes of it."""
        await self.note(await asyncio.get_running_loop().run_in_executor(self._thread, self._read))

    async def note(self, reading: Pressure) -> None:
        """Do what a reading asks for."""
        was_pressed = self._relief.now.pressed
        advice = self._judge.look(reading, self._relief.stock())
        self._relief.now = MemoryNow(True, advice.pressed, advice.because, reading.memory.available_bytes)
        if advice.pressed and not was_pressed:
            log.warning("memory is short: %s", advice.because)
        elif was_pressed and not advice.pressed:
            self._stuck = False
            log.info("memory is no longer short")
        await self._act(advice)

    async def aclose(self) -> None:
        """Stop watching; an engine that a step waits for ends with the pool."""
        tasks = [task for task in (self._watching, self._stepping) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._thread.shutdown(wait=False)

    async def _act(self, advice: Advice) -> None:
        if advice.step == "drop":
            self._relief.drop_prefixes(advice.because)
        elif advice.step == "evict":
            await self._relief.evict(advice.because)
        elif advice.step == "step-down" and (self._stepping is None or self._stepping.done()):
            self._stepping = asyncio.create_task(self._step_down(advice.because))

    async def _step_down(self, because: str) -> None:
        """Takes as long as the answers of the engine; said once where no engine can do with less."""
        try:
            if await self._relief.step_down(because) or self._stuck:
                return
        except LilliputError as error:
            because = f"{because} ({error.message})"
        self._stuck = True
        self._steps.note("stuck", "engines", f"no engine can give more back: {because}")
