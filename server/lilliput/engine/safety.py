"""Safe settings: which CPU features an engine may use on this machine with this build.

Some machines advertise instructions that they then refuse (AMX under many hypervisors), and llama.cpp dies by a
signal at its first forward pass. So a file is first run by a worker with everything on; if that worker crashes while
it warms up, the next rung is tried. What held is remembered per machine, build and set of tensor types, and later
workers start with it.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from lilliput.errors import EngineDied
from lilliput.llama import Rung

PROVING_TOKENS = 64
"""Tokens of the warm-up of an unproven rung: a whole matrix product in every kernel, not only the single-token path."""

T = TypeVar("T")


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


def crashed(error: EngineDied) -> bool:
    """Whether an engine died of what it did, and not because somebody ended it."""
    return error.signal_number in _FAULT_SIGNALS


def verdict_key(machine: str, build: str, tensor_types: Iterable[str]) -> str:
    """The key under which a verdict holds."""
    return f"safe-settings/2/{machine}/{build}/{'+'.join(sorted(tensor_types))}"


def rungs_from(known: str | None, rungs: Sequence[Rung]) -> Sequence[Rung]:
    """The remembered one of ``rungs`` and those that are safer; all of them where none is remembered."""
    first = next((at for at, rung in enumerate(rungs) if rung == known), 0)
    return rungs[first:]


async def climb_down(
    attempt: Callable[[Rung, bool], Awaitable[T]],
    key: str,
    verdicts: Verdicts,
    on_crash: Callable[[Rung, EngineDied], None],
    rungs: Sequence[Rung],
) -> tuple[T, Rung]:
    """Call ``attempt(rung, proven)`` on ever safer ``rungs`` until one does not crash; returns its result and the rung.

    ``rungs`` are those of this machine, fastest first; the remembered one is where it starts. Only a crash by a fault
    signal counts; other errors, and a crash on the last rung, are raised. ``on_crash`` hears of every crash that leads
    to the next rung.
    """
    known = verdicts.get_fact(key)
    for rung in rungs_from(known, rungs):
        proven = rung == known
        try:
            result = await attempt(rung, proven)
        except EngineDied as error:
            if not crashed(error) or rung == rungs[-1]:
                raise
            on_crash(rung, error)
            continue
        if not proven:
            verdicts.set_fact(key, rung)
        return result, rung
    raise AssertionError("the last rung either returns or raises")
