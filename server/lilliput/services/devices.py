"""The accelerators of this machine: listed by a child at the start, and again where what is free may have changed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import msgspec

from lilliput.children import start_child
from lilliput.hardware import Accelerator, with_nvidia
from lilliput.pool import Holding
from lilliput.services.machine import usable

log = logging.getLogger(__name__)

LIST_TIMEOUT_S = 30.0
FRESH_S = 5.0
"""How long a listing tells what is free."""
RETRY_S = 60.0
"""After this a listing that failed is tried again, and then after twice as long, up to ``LONGEST_RETRY_S``."""
LONGEST_RETRY_S = 3600.0


class Devices:
    """Owner of what is known of the accelerators, in one event loop; ``run`` keeps at it until they are known.

    ``list_devices`` raises OSError, ValueError or TimeoutError when it fails. ``on_listed`` is awaited with those that
    can hold layers after each listing, before anybody plans with them.
    """

    def __init__(
        self,
        list_devices: Callable[[], Awaitable[Sequence[Accelerator]]],
        holdings: Callable[[], Sequence[Holding]],
        *,
        clock: Callable[[], float] = time.monotonic,
        retry_s: float = RETRY_S,
        on_listed: Callable[[Sequence[Accelerator]], Awaitable[None]] | None = None,
    ) -> None:
        self._list_devices = list_devices
        self._holdings = holdings
        self._clock = clock
        self._retry_s = retry_s
        self._on_listed = on_listed
        self._looked = asyncio.Event()
        self._lock = asyncio.Lock()
        self._old_at_s = 0.0
        self._most_free: dict[str, int] = {}
        self.accelerators: tuple[Accelerator, ...] = ()
        self.problem: str | None = None

    @property
    def looked(self) -> bool:
        """Whether the first listing has ended, well or not."""
        return self._looked.is_set()

    async def run(self) -> None:
        """List the devices; when that fails, again later."""
        wait_s = self._retry_s
        try:
            while not await self._list():
                self._looked.set()
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, LONGEST_RETRY_S)
        finally:
            self._looked.set()  # whatever happened, nobody waits for ever

    async def refresh(self) -> None:
        """Wait for the first listing; then list again where that may tell of memory that others took since.

        Not needed where the driver is asked at each reading, nor where there is no accelerator.
        """
        await self._looked.wait()
        if self._fresh():
            return
        async with self._lock:
            if not self._fresh() and not await asyncio.to_thread(self._told_now):
                await self._list()

    def _fresh(self) -> bool:
        return not usable(self.accelerators) or self._clock() < self._old_at_s

    def _told_now(self) -> bool:
        return all(one.free_is_now for one in with_nvidia(usable(self.accelerators)))

    async def _list(self) -> bool:
        before = self._holdings()
        try:
            found = tuple(await self._list_devices())
        except (OSError, ValueError, TimeoutError) as error:
            self.problem = f"the accelerators of this machine could not be listed: {str(error) or type(error).__name__}"
            log.warning("%s", self.problem)
            self._old_at_s = self._clock() + self._retry_s
            return False
        if self.problem is not None:
            log.info("accelerators: %s", ", ".join(one.name for one in found) or "none")
        self.problem = None
        self._old_at_s = self._clock() + FRESH_S
        self.accelerators = tuple(self._beside(one, before, self._holdings()) for one in found)
        if self._on_listed is not None:
            await self._on_listed(usable(self.accelerators))
        return True

    def _beside(self, found: Accelerator, before: Sequence[Holding], after: Sequence[Holding]) -> Accelerator:
        """With what would be free without our engines.

        Some drivers tell what is free of what this very process took and see no other: there the listings say what
        they said at first, and what engines hold is not to be added to it.
        """
        if found.free_bytes is None:
            return found
        held = min(sum(one.touched.get(found.name, 0) for one in some) for some in (before, after))
        most = self._most_free[found.name] = max(self._most_free.get(found.name, 0), found.free_bytes)
        return replace(found, free_bytes=min(most, found.free_bytes + held))


async def list_devices() -> list[Accelerator]:
    """What llama.cpp can compute on, told by a child; raises OSError, ValueError or TimeoutError."""
    child = start_child("lilliput.llama.devices", humble=True)
    try:
        async with asyncio.timeout(LIST_TIMEOUT_S):
            output, status = await child.output.read(), await child.wait()
    except TimeoutError:
        raise TimeoutError(f"no answer within {LIST_TIMEOUT_S:.0f} s") from None
    finally:
        await child.aclose()
    if status:
        raise ValueError(f"the child that lists them ended with status {status}")
    try:
        return msgspec.json.decode(output, type=list[Accelerator])
    except msgspec.DecodeError as error:
        raise ValueError(f"the child that lists them said something else: {error}") from None
