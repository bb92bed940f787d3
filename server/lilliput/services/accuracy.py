"""How right plans were: each real load beside what was predicted for it, kept by architecture, backend and build."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import msgspec

from lilliput.fit import RAM
from lilliput.hardware import private_bytes
from lilliput.llama import Buffers
from lilliput.pool import LoadReport
from lilliput.services.oracle import Facts

log = logging.getLogger(__name__)

_KEPT = 20
_FACT = "plan-accuracy/1"
_MAPPED = "_Mapped"
_PARTS = ("weights", "kv", "compute", "overhead")


@dataclass(frozen=True, slots=True)
class Parts:
    """Bytes on one device; ``overhead`` is None where it cannot be told apart."""

    weights: int
    kv: int
    compute: int
    overhead: int | None


class Sample(msgspec.Struct, frozen=True):
    """One load: what was predicted for each device (``corrected_bytes`` of it by earlier loads), and what it took."""

    model: str
    context_tokens: int
    slots: int
    predicted: dict[str, Parts]
    measured: dict[str, Parts]
    at: float
    corrected_bytes: int = 0


class _Group(msgspec.Struct):
    """The last loads of one architecture on one backend and build."""

    architecture: str
    backend: str
    build: str
    samples: list[Sample] = []


class Accuracy:
    """Keeps samples in ``facts`` and corrects the next plan's overhead by them; used from one event loop."""

    def __init__(self, facts: Facts, build: str) -> None:
        self._facts = facts
        self._build = build
        self._groups: dict[str, _Group] = {}
        self._saving: set[asyncio.Task[None]] = set()

    async def load(self) -> None:
        """Read what earlier runs have kept."""
        text = await asyncio.to_thread(self._facts.get_fact, _FACT)
        if text is not None:
            self._groups = msgspec.json.decode(text, type=dict[str, _Group])

    def note(self, report: LoadReport, now: float) -> None:
        """Compare a load with its plan. Called in the event loop; it is saved in a thread."""
        loaded, plan = report.loaded, report.plan
        architecture = report.model.architecture or "unknown"
        predicted = {
            name: Parts(need.weights_bytes, need.kv_bytes, need.compute_bytes, need.overhead_bytes)
            for name, need in plan.needs.items()
        }
        private = private_bytes(loaded.engine.pid) if loaded.engine.pid else 0
        measured = measured_parts(loaded.ready.buffers, tuple(plan.needs), private)
        corrected = self.overhead_bytes(architecture)
        sample = Sample(report.model.name, plan.context_tokens, plan.slots, predicted, measured, now, corrected)
        key = f"{architecture}/{loaded.rung}/{self._build}"
        group = self._groups.setdefault(key, _Group(architecture, loaded.rung, self._build))
        group.samples = [*group.samples, sample][-_KEPT:]
        saving = asyncio.create_task(self._save())
        self._saving.add(saving)
        saving.add_done_callback(self._saving.discard)

    def overhead_bytes(self, architecture: str) -> int:
        """What to add to the formula's overhead of main memory: the median of what loads took beyond it.

        Only what was surely taken counts: memory that an engine has not touched yet makes it look smaller, so the
        correction is never negative.
        """
        beyond = [
            told.overhead - foretold.overhead + sample.corrected_bytes
            for group in self._groups.values()
            if group.architecture == architecture and group.build == self._build
            for sample in group.samples
            if (told := sample.measured.get(RAM)) is not None
            and (foretold := sample.predicted.get(RAM)) is not None
            and told.overhead is not None
            and foretold.overhead is not None
        ]
        return max(0, round(median(beyond))) if beyond else 0

    def table(self) -> list[dict[str, Any]]:
        """Rows by architecture, backend and build: how many loads, the last one, and errors by part and device."""
        return [
            _row(group, self.overhead_bytes(group.architecture)) for group in self._groups.values() if group.samples
        ]

    async def aclose(self) -> None:
        """Wait until all is saved."""
        await asyncio.gather(*self._saving)

    async def _save(self) -> None:
        text = msgspec.json.encode(self._groups).decode()
        await asyncio.to_thread(self._facts.set_fact, _FACT, text)


def measured_parts(buffers: Buffers, devices: Sequence[str], private: int) -> dict[str, Parts]:
    """What a load took, by device; names of buffers that are no device's belong to main memory.

    ``private`` is what the process holds beside files. Copies of weights that were repacked count once, as weights.
    """

    def by_device(sizes: Mapping[str, int]) -> dict[str, int]:
        found = dict.fromkeys((RAM, *devices), 0)
        for buffer, size in sizes.items():
            found[buffer if buffer in found else RAM] += size
        return found

    weights, kv = by_device(buffers.weights), by_device(buffers.kv)
    compute, output = by_device(buffers.compute), by_device(buffers.output)
    copied = sum(size for name, size in buffers.weights.items() if not name.endswith(_MAPPED) and name not in devices)
    weights[RAM] -= min(copied, weights[RAM] - copied)
    known = copied + kv[RAM] + compute[RAM] + output[RAM]
    overhead = private - known if private > known else None  # what was not touched yet hides what was
    return {
        name: Parts(weights[name], kv[name], compute[name] + output[name], overhead if name == RAM else None)
        for name in dict.fromkeys((RAM, *devices))
    }


def _row(group: _Group, correction_bytes: int) -> dict[str, Any]:
    """The last load added over all memories, the worst of all, and by device and part how far plans were off."""
    last = group.samples[-1]
    shares = [_error(sample) for sample in group.samples]
    return {
        "architecture": group.architecture,
        "backend": group.backend,
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
