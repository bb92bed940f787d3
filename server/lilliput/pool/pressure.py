"""Whether memory is short while engines serve, and what to give back next. Pure: readings and times in, advice out.

A sign must hold for a while before anything is done, each step gets the time to show what it helped, and it is over
only when all signs have been well below their marks for a long time: so nothing is done and undone in turn.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

from lilliput.hardware import Level, Pressure, Stalls
from lilliput.units import MIB, format_bytes

Relief = Literal["drop", "evict", "step-down"]
"""What can be given back, the cheapest first: kept prefixes, an idle engine, a part of what a busy engine has."""

SOME_WAIT, ALL_WAIT = 0.15, 0.05
"""Shares of the time in which some work, or all of it, stands still for want of memory: the triggers that the kernel's
own text gives as examples (150 ms and 50 ms of a second, Documentation/accounting/psi.rst). systemd-oomd and Facebook's
oomd kill at 60 % over 30 s; what is done here costs less than a process, so it comes earlier."""

SWAPPED_IN_BYTES_S = 4 * MIB
"""A thousand pages a second that were needed again. Weights and caches are read whole for every token, so what an
engine misses comes back at this rate and more; single pages of somebody else do not."""

SCARCE = 0.1
"""Stalls of the whole machine count only while less than this part of memory is available: others may stall at limits
of their own, and nothing that is given back would help them."""

EASED = 0.5
"""Signs count as gone below this part of their marks; available memory where there is twice as much as its mark."""

WINDOW_S = 3.0
"""Shares and rates are means over so many seconds: long enough for one slow second not to count, shorter than the
kernel's means over 10 s, which would still tell of a shortage that a step has ended."""

HOLD_S = 2.0
"""A sign that does not last so long, on top of the window, is a moment's."""

SETTLE_S = WINDOW_S + HOLD_S
"""After a step: until the window has nothing of the time before it."""

AGAIN_S = 30.0
"""Prefixes that were dropped come back by and by while engines work, and are dropped again no more often than this."""

BUSY_HOLD_S = 10.0
"""A busy engine steps down only where signs have lasted so long: its users notice."""

BUSY_APART_S = 60.0
"""Time between two such steps: draining, loading and what it helped must have shown."""

CALM_S = 60.0
"""Pressure is over when all signs have been gone for so long. What was given up does not come back before."""


@dataclass(frozen=True, slots=True)
class Stock:
    """What could be given back: whether there are ``prefixes``, ``idle`` engines to end, ``ready`` ones to step down.

    ``mapped_bytes`` of weights are in use by engines, although the system counts them as available.
    """

    prefixes: bool = False
    idle: bool = False
    ready: bool = False
    mapped_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Strain:
    """Signs at one moment: shares of time, bytes a second, and what is available beside the mapped weights in use.

    Below ``low_bytes`` of that memory is short. ``level`` is the word of a system that judges for itself.
    """

    some: float
    full: float
    swapped_in_bytes_s: float
    spare_bytes: int
    low_bytes: int
    level: Level | None = None

    def signs(self, part: float = 1.0) -> tuple[str, ...]:
        """What is beyond this part of its mark, in words with numbers."""
        if self.level is not None:
            return () if self.level == "normal" else (f"the system calls the memory pressure {self.level}",)
        found = []
        if self.some >= SOME_WAIT * part or self.full >= ALL_WAIT * part:
            found.append(f"some work waited for memory {self.some:.0%} of the time, all work {self.full:.0%}")
        if self.swapped_in_bytes_s >= SWAPPED_IN_BYTES_S * part:
            found.append(f"{format_bytes(round(self.swapped_in_bytes_s))}/s came back from swap")
        if self.spare_bytes * part < self.low_bytes:
            beside = "are available beside the weights in use"
            found.append(f"{format_bytes(self.spare_bytes)} {beside}, less than {format_bytes(self.low_bytes)}")
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do now, None: nothing. ``pressed``: memory is short, or was in the last CALM_S, ``because`` of this."""

    step: Relief | None
    pressed: bool
    because: str


class Judge:
    """Looks at one reading after the other. Memory is short where less than ``low_bytes`` are available."""

    def __init__(self, low_bytes: int) -> None:
        self._low_bytes = low_bytes
        self._window: deque[Pressure] = deque()
        self._strained_s: float | None = None
        self._pressed = False
        self._because = ""
        self._last_sign_s = -CALM_S
        self._step_s = self._dropped_s = self._stepped_down_s = -AGAIN_S - BUSY_APART_S

    def look(self, reading: Pressure, stock: Stock) -> Advice:
        """What this reading asks for; a step that is advised counts as taken."""
        now_s = reading.at_s
        strain = self._strain(reading, stock.mapped_bytes)
        signs = strain.signs()
        if not signs:
            self._strained_s = None
            if strain.signs(EASED):
                self._last_sign_s = now_s
            elif now_s - self._last_sign_s >= CALM_S:
                self._pressed = False
            return Advice(None, self._pressed, self._because if self._pressed else "")
        self._last_sign_s = now_s
        self._strained_s = now_s if self._strained_s is None else self._strained_s
        if now_s - self._strained_s < HOLD_S:
            return Advice(None, self._pressed, self._because if self._pressed else "")
        self._pressed, self._because = True, " and ".join(signs)
        return Advice(self._next(now_s, now_s - self._strained_s, strain, stock), True, self._because)

    def _next(self, now_s: float, held_s: float, strain: Strain, stock: Stock) -> Relief | None:
        if now_s - self._step_s < SETTLE_S:
            return None
        step: Relief | None = None
        if stock.prefixes and now_s - self._dropped_s >= AGAIN_S:
            step, self._dropped_s = "drop", now_s
        elif stock.idle:
            step = "evict"
        elif stock.ready and self._may_trouble_users(now_s, held_s, strain):
            step, self._stepped_down_s = "step-down", now_s
        if step is not None:
            self._step_s = now_s
        return step

    def _may_trouble_users(self, now_s: float, held_s: float, strain: Strain) -> bool:
        apart = now_s - self._stepped_down_s >= BUSY_APART_S
        return apart and held_s >= BUSY_HOLD_S and strain.level != "warning"

    def _strain(self, reading: Pressure, mapped_bytes: int) -> Strain:
        window = self._window
        window.append(reading)
        while len(window) > 2 and reading.at_s - window[1].at_s >= WINDOW_S:
            window.popleft()
        before = window[0]
        memory = reading.memory
        some, full = _shares(before.group, reading.group, before, reading)
        if memory.available_bytes < memory.total_bytes * SCARCE:
            everywhere = _shares(before.system, reading.system, before, reading)
            some, full = max(some, everywhere[0]), max(full, everywhere[1])
        return Strain(
            some,
            full,
            reading.swapped_in_since(before) or 0.0,
            memory.available_bytes - mapped_bytes,
            self._low_bytes,
            reading.level,
        )


def _shares(before: Stalls | None, after: Stalls | None, first: Pressure, last: Pressure) -> tuple[float, float]:
    """The shares of time between two readings in which some work, and all of it, stood still."""
    passed_s = last.at_s - first.at_s
    if before is None or after is None or passed_s <= 0:
        return 0.0, 0.0
    some_s, full_s = after.some_total_s - before.some_total_s, after.full_total_s - before.full_total_s
    return some_s / passed_s, full_s / passed_s
