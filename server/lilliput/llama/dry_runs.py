"""Dry runs from the outside: children that are started, bounded in time, and replaced when a point ends them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from lilliput.children import start_child
from lilliput.llama.dry_run_values import DryRequest, DryResult, Point

TIMEOUT_S = 20.0
MOST_DEATHS = 4
"""Points of one request that may end a child before the rest is given up."""

_DIED = "llama.cpp ended its process over this"


async def run_dry(
    points: Sequence[Point], quantizations: Sequence[str] = (), *, timeout_s: float = TIMEOUT_S
) -> tuple[list[DryResult], list[DryResult]]:
    """The answers for ``points``, in their order, and for ``quantizations``; what could not be had carries an error.

    A point at which the child dies is answered by an error, and a new child goes on behind it.
    """
    planned: dict[int, DryResult] = {}
    quantized: dict[str, DryResult] = {}
    reason = _DIED
    deadline_s = asyncio.get_running_loop().time() + timeout_s
    for _ in range(MOST_DEATHS + 1):
        left = [number for number in range(len(points)) if number not in planned]
        kinds = [kind for kind in quantizations if kind not in quantized]
        remaining_s = deadline_s - asyncio.get_running_loop().time()
        if not (left or kinds):
            break
        if remaining_s <= 0:
            reason = f"llama.cpp did not answer within {timeout_s:.0f} s"
            break
        request = DryRequest(tuple(points[number] for number in left) or tuple(points[:1]), tuple(kinds))
        for result in await _child(request, remaining_s):
            if result.quantization is not None:
                quantized[result.quantization] = result
            elif result.number is not None and left:
                planned[left[result.number]] = msgspec.structs.replace(result, number=left[result.number])
        if asyncio.get_running_loop().time() < deadline_s:
            _note_death(left, kinds, planned, quantized)
    late = reason != _DIED
    return (
        [
            planned.get(number) or DryResult(number=number, error=reason, timed_out=late)
            for number in range(len(points))
        ],
        [quantized.get(kind) or DryResult(quantization=kind, error=reason, timed_out=late) for kind in quantizations],
    )


def _note_death(
    left: Sequence[int], kinds: Sequence[str], planned: dict[int, DryResult], quantized: dict[str, DryResult]
) -> None:
    """The first point without an answer is the one the child died over; nothing to note when all are answered."""
    for number in left:
        if number not in planned:
            planned[number] = DryResult(number=number, error=_DIED)
            return
    for kind in kinds:
        if kind not in quantized:
            quantized[kind] = DryResult(quantization=kind, error=_DIED)
            return


async def _child(request: DryRequest, timeout_s: float) -> list[DryResult]:
    child = start_child("lilliput.llama.dry_run", data=msgspec.json.encode(request), humble=True)
    results: list[DryResult] = []
    decode = msgspec.json.Decoder(DryResult).decode
    try:
        async with asyncio.timeout(timeout_s):
            rest = b""
            while piece := await child.output.read(1 << 16):
                *lines, rest = (rest + piece).split(b"\n")
                results += map(decode, lines)
    except (TimeoutError, msgspec.DecodeError):
        pass  # what is missing is answered by an error
    finally:
        await child.aclose()
    return results
