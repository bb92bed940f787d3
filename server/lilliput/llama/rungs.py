"""The rungs of safe settings: how much of the CPU a process lets llama.cpp use, from fastest to safest.

``native`` is everything the build knows. ``no-amx`` leaves out AMX, which some machines announce and then refuse;
weights are still repacked for the vector units. ``no-extra-buffers`` also leaves them as they are in the file.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, get_args

from lilliput.llama.amx import amx_can_be_denied, deny_amx

Rung = Literal["native", "no-amx", "no-extra-buffers"]

RUNGS: tuple[Rung, ...] = get_args(Rung)

_AMX_FLAG = "amx_tile"


def rungs_of(simd: Collection[str] | None) -> tuple[Rung, ...]:
    """The rungs that differ on this machine, whose processor announces these instruction sets."""
    with_amx = _AMX_FLAG in (simd or ()) and amx_can_be_denied()
    return tuple(rung for rung in RUNGS if rung != "no-amx" or with_amx)


def apply(rung: Rung) -> bool:
    """Hold this process to a rung, before it loads its first model; whether models may have extra buffers.

    Raises EngineLoadFailed when the process cannot be held to it.
    """
    if rung == "no-amx":
        deny_amx()
    return rung != "no-extra-buffers"
