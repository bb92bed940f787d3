"""How right plans were: real loads beside what was predicted, kept by architecture, backend, offload and build."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import msgspec
import psutil

from lilliput.fit import RAM, Offload
from lilliput.llama import Buffers
from lilliput.llama.held_memory import Held, held_memory
from lilliput.pool import UseReport
from lilliput.services.machine import backend_of
from lilliput.services.oracle import Facts
from lilliput.units import GIB

log = logging.getLogger(__name__)

_KEPT = 20
_FACT = "plan-accuracy/2"
_MAPPED = "_Mapped"
_PARTS = ("weights", "kv", "compute", "overhead")

MOST_RAISED_BYTES = GIB
"""No correction is larger: what is beyond it is no overhead but something else."""

MOST_LOWERED = 0.25
"""Nor does one take more than this part of the overhead away: it is mostly the process and the vocabulary."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Bytes on one device; ``overhead`` is None where it cannot be told apart."""

    weights: int
    kv: int
    compute: int
    overhead: int | None


class Sample(msgspec.Struct, frozen=True):
    """One engine: what was predicted for each device (``corrected_bytes`` of it by earlier loads), and what it took.

    ``filled``: it had computed a whole micro-batch.
    """

    model: str
    context_tokens: int
    slots: int
    predicted: dict[str, Parts]
    measured: dict[str, Parts]
    at: float
    corrected_bytes: int = 0
    filled: bool = False


class _Group(msgspec.Struct):
    """The last loads of one architecture on one backend and build."""

    architecture: str
    backend: str
    offload: Offload
    build: str
    samples: list[Sample] = []


class Accuracy:
    """Keeps samples in ``facts`` and corrects the next plan's overhead by them; used from one event loop.

    ``look`` tells what a process holds; it is called in a thread, for the kernel walks through all its pages.
    """

    def __init__(self, facts: Facts, build: str, look: Callable[[int], Held] = held_memory) -> None:
        self._facts = facts
        self._build = build
        self._look = look
        self._groups: dict[str, _Group] = {}

    async def load(self) -> None:
        """Read what earlier runs have kept."""
        text = await asyncio.to_thread(self._facts.get_fact, _FACT)
        if text is not None:
            self._groups = msgspec.json.decode(text, type=dict[str, _Group])

    async def note(self, report: UseReport, now: float) -> None:
        """Compare what an engine holds with its plan, and keep that."""
        plan, engine = report.plan, report.loaded.engine
        if engine.pid is None:
            return
        try:
            held = await asyncio.to_thread(self._look, engine.pid)
        except psutil.Error:
            return  # it has just ended
        architecture = report.model.architecture or "unknown"
        backend = backend_of(() if plan.offload == "none" else (name for name in plan.needs if name != RAM))
        predicted = {
            name: Parts(need.weights_bytes, need.kv_bytes, need.compute_bytes, need.overhead_bytes)
            for name, need in plan.needs.items()
        }
        idle = plan.needs[RAM].idle_bytes if RAM in plan.needs else 0
        measured = measured_parts(report.loaded.ready.buffers, tuple(plan.needs), held, idle, report.stored_bytes)
        sample = Sample(
            report.model.name,
            plan.context_tokens,
            plan.slots,
            predicted,
            measured,
            now,
            self.overhead_bytes(architecture, backend, plan.offload),
            report.filled,
        )
        key = "/".join((architecture, backend, plan.offload, self._build))
        group = self._groups.setdefault(key, _Group(architecture, backend, plan.offload, self._build))
        group.samples = [*group.samples, sample][-_KEPT:]
        text = msgspec.json.encode(self._groups).decode()
        await asyncio.to_thread(self._facts.set_fact, _FACT, text)

    def overhead_bytes(self, architecture: str, backend: str, offload: Offload) -> int:
        """What to add to the formula's overhead of main memory for such loads; negative when all took less.

        Each sample is a least value, for scratch that was not touched yet hides overhead. So it goes up by the median,
        and down only as far as no engine that had computed a whole micro-batch took more.
        """
        group = self._groups.get("/".join((architecture, backend, offload, self._build)))
        told = [] if group is None else [one for one in group.samples if _beyond(one) is not None]
        beyond = [_beyond(one) or 0 for one in told]
        if not beyond:
            return 0
        if (middle := round(median(beyond))) > 0:
            return min(middle, MOST_RAISED_BYTES)
        if not any(one.filled for one in told):
            return 0
        formula = min(_formula(one) for one in told)
        return max(min(0, max(beyond)), -round(MOST_LOWERED * formula))

    def table(self) -> list[dict[str, Any]]:
        """Rows by architecture, backend, offload and build: how many loads, the last one, and errors by device."""
        return [
            _row(group, self.overhead_bytes(group.architecture, group.backend, group.offload))
            for group in self._groups.values()
            if group.samples
        ]


def _formula(sample: Sample) -> int:
    """The overhead of main memory before it was corrected."""
    return (sample.predicted[RAM].overhead or 0) - sample.corrected_bytes


def _beyond(sample: Sample) -> int | None:
    """What an engine surely took beyond the formula's overhead."""
    told = sample.measured[RAM].overhead if RAM in sample.predicted else None
    return None if told is None else told - _formula(sample)


def measured_parts(
    buffers: Buffers, devices: Sequence[str], held: Held, idle_bytes: int = 0, stored_bytes: int = 0
) -> dict[str, Parts]:
    """What a load took, by device; names of buffers that are no device's belong to main memory.

    ``held`` is what the process holds: ``stored_bytes`` of it for prefixes, which plans count apart. ``idle_bytes`` of
    the mapped weights are originals of what was repacked, which plans do not count.
    """

    def by_device(sizes: Mapping[str, int]) -> dict[str, int]:
        found = dict.fromkeys((RAM, *devices), 0)
        for buffer, size in sizes.items():
            found[buffer if buffer in found else RAM] += size
        return found

    weights, kv = by_device(buffers.weights), by_device(buffers.kv)
    compute, output = by_device(buffers.compute), by_device(buffers.output)
    mapped = sum(size for name, size in buffers.weights.items() if name.endswith(_MAPPED) and name not in devices)
    copied = weights[RAM] - mapped
    weights[RAM] = max(0, weights[RAM] - idle_bytes)
    known = copied + kv[RAM] + compute[RAM] + output[RAM] + stored_bytes
    return {
        name: Parts(
            weights[name],
            kv[name],
            compute[name] + output[name],
            _overhead(held, known, mapped) if name == RAM else None,
        )
        for name in dict.fromkeys((RAM, *devices))
    }


def _overhead(held: Held, known_bytes: int, mapped_bytes: int) -> int | None:
    """The least that a process takes beside buffers: what it touched of them is at most all, and of the file, too.

    None where the system does not tell memory apart that no file stands behind, or where less was touched than planned.
    """
    if held.anonymous_bytes is None:
        return None
    libraries = max(0, (held.file_bytes or 0) - mapped_bytes)
    least = held.anonymous_bytes + libraries - known_bytes
    return least if least > 0 else None


def _row(group: _Group, correction_bytes: int) -> dict[str, Any]:
    """The last load added over all memories, the worst of all, and by device and part how far plans were off."""
    last = group.samples[-1]
    shares = [_error(sample) for sample in group.samples]
    return {
        "architecture": group.architecture,
        "backend": group.backend,
        "offload": group.offload,
        "build": group.build,
        "loads": len(group.samples),
        "planned": _added(last.predicted, {}),
        "measured": _added(last.measured, last.predicted),
        "error_percent": shares[-1],
        "worst_percent": max(shares, key=abs),
        "correction_bytes": correction_bytes,
        "updated_at": last.at,
        "errors_bytes": {device: _errors(group.samples, device) for device in last.measured},
    }


def _added(parts: Mapping[str, Parts], otherwise: Mapping[str, Parts]) -> dict[str, int]:
    """All devices together; for overhead that could not be told apart, what was planned stands."""
    whole = dict.fromkeys(_PARTS, 0)
    for device, one in parts.items():
        for part in _PARTS:
            size = getattr(one, part)
            planned = getattr(otherwise[device], part) if device in otherwise else 0
            whole[part] += size if size is not None else planned or 0
    return whole


def _error(sample: Sample) -> float:
    """How much more a load took than planned, in percent; overhead only where it was measured."""
    told = [
        (getattr(sample.predicted[device], part), getattr(sample.measured[device], part))
        for device in sample.measured
        for part in _PARTS
        if device in sample.predicted and getattr(sample.measured[device], part) is not None
    ]
    planned = sum(foretold or 0 for foretold, _ in told)
    return round(100 * (sum(taken for _, taken in told) - planned) / planned, 2) if planned else 0.0


def _errors(samples: Sequence[Sample], device: str) -> dict[str, dict[str, int]]:
    """Measured less predicted bytes by part."""
    found = {}
    for part in _PARTS:
        differences = [
            getattr(one.measured[device], part) - getattr(one.predicted[device], part)
            for one in samples
            if device in one.predicted
            and device in one.measured
            and getattr(one.measured[device], part) is not None
            and getattr(one.predicted[device], part) is not None
        ]
        if differences:
            found[part] = {"median": round(median(differences)), "worst": max(differences, key=abs)}
    return found
