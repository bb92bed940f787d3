"""Safe settings: which CPU features an engine may use on this machine with this build.

Some machines advertise instructions that they then refuse (AMX under many hypervisors), and llama.cpp dies by a
signal at its first forward pass. So a file is first run by a worker with everything on; if that worker crashes while
it warms up, the next rung is tried. What held is remembered per machine, build and set of tensor types, and later
workers start with it.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from lilliput.errors import EngineDied

PROVING_TOKENS = 64
"""Tokens of the warm-up of an unproven rung: a whole matrix product in every kernel, not only the single-token path."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rung:
    """One set of backend settings, from fastest to safest. ``extra_buffers``: AMX and weight repacking allowed."""

    name: str
    extra_buffers: bool


RUNGS = (Rung("native", extra_buffers=True), Rung("no-extra-buffers", extra_buffers=False))

_FAULT_SIGNALS = frozenset(
    getattr(signal, name) for name in ("SIGSEGV", "SIGILL", "SIGBUS", "SIGFPE", "SIGABRT") if hasattr(signal, name)
)


class Verdicts(Protocol):
    """Where verdicts are kept between runs."""

    def get_fact(self, key: str) -> str | None:
        """The remembered value, None when there is none."""
        ...

    def set_fact(self, key: str, value: str) -> None:
        """Remember a value."""
        ...


def verdict_key(machine: str, build: str, tensor_types: Iterable[str]) -> str:
    """The key under which a verdict holds."""
    return f"safe-settings/{machine}/{build}/{'+'.join(sorted(tensor_types))}"


async def climb_down(
    attempt: Callable[[Rung, bool], Awaitable[T]],
    key: str,
    verdicts: Verdicts,
    on_crash: Callable[[Rung, EngineDied], None],
) -> tuple[T, Rung]:
    """Call ``attempt(rung, proven)`` on ever safer rungs until one does not crash; returns its result and the rung.

    Starts at the remembered rung. Only a crash by a fault signal counts; other errors, and a crash on the last rung,
    are raised. ``on_crash`` hears of every crash that leads to the next rung.
    """
    known = verdicts.get_fact(key)
    first = next((at for at, rung in enumerate(RUNGS) if rung.name == known), 0)
    for rung in RUNGS[first:]:
        proven = rung.name == known
        try:
            result = await attempt(rung, proven)
        except EngineDied as error:
            if error.signal_number not in _FAULT_SIGNALS or rung is RUNGS[-1]:
                raise
            on_crash(rung, error)
            continue
        if not proven:
            verdicts.set_fact(key, rung.name)
        return result, rung
    raise AssertionError("the last rung either returns or raises")
