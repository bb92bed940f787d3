"""What computing costs on this machine's CPU and accelerators: probed once for each tensor type; on the CPU then
corrected by real runs.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import msgspec

from lilliput.errors import LilliputError
from lilliput.fit import Calibration, Traffic, assume, calibrate, observe
from lilliput.hardware import Accelerator
from lilliput.llama import Rung
from lilliput.services.answer import Run
from lilliput.services.model_facts import read_facts
from lilliput.services.oracle import Facts
from lilliput.services.probe_child import measure, quiet
from lilliput.units import MIB

log = logging.getLogger(__name__)

BANDWIDTH_TIMEOUT_S = 20.0
PROBE_S = 20.0
ACCELERATOR_TIMEOUT_S = 180.0
"""More than a probe of the CPU gets: a driver may compile its kernels first."""

ACCELERATOR_BYTES = 256 * MIB
"""Weights of the probe's model on accelerators: more than the caches of those that are sold today."""

LEAST_OBSERVED_TOKENS = 32
LEAST_OBSERVED_PROMPT_TOKENS = 128
_MOST_CACHED = 1 / 16
"""The part of a prompt that may come from the cache where its speed shall tell: behind more, tokens cost more."""

EXPERT_TYPE = "Q4_K"
"""The type whose experts are measured for those of all types: the usual one of such models."""

QUIET_S = 3.0
_MOST_ATTEMPTS = 5
_OTHERS_S = 60.0
_LEAST_SHARE = 0.85
"""Of the time of its threads that a probe must have had; else other programs computed, and what it saw was them."""
_PROBED = frozenset(
    {
        "F16",
        "BF16",
        "Q8_0",
        "Q6_K",
        "Q5_K",
        "Q4_K",
        "Q3_K",
        "Q2_K",
        "Q4_0",
        "Q4_1",
        "Q5_0",
        "Q5_1",
        "IQ4_NL",
        "IQ4_XS",
        "MXFP4",
    }
)
"""Types that the probe can generate a model of; others borrow from their kin."""

_CPU = ""


@dataclass(frozen=True, slots=True, order=True)
class _Job:
    """Something to measure: a tensor type on the CPU (no ``device``) or an accelerator, with experts or without."""

    device: str
    type: str
    experts: bool = False

    def __str__(self) -> str:
        return f"{self.type}{' with experts' if self.experts else ''} on {self.device or 'the CPU'}"


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Bytes a second that this machine reads from memory, or from caches that hold the probe's buffer.

    ``cache_bound`` is None where the size of the caches is unknown.
    """

    bytes_s: float
    cache_bound: bool | None


class Speeds:
    """Owner of the calibrations of the CPU and of each accelerator, and of the measured bandwidth; used from one event
    loop.

    ``machine`` and ``build`` say for what they hold. ``busy`` tells whether an engine computes: probes give way.
    Without ``probing`` only real runs count, once something was measured.
    """

    def __init__(
        self,
        facts: Facts,
        machine: str,
        build: str,
        threads: int,
        busy: Callable[[], bool],
        *,
        probing: bool = True,
    ) -> None:
        self._facts = facts
        self._keys = {_CPU: f"speed/3/{machine}/{build}"}
        self._bandwidth_key = f"bandwidth/2/{machine}"
        self._threads = threads
        self._busy = busy
        self._may_probe = probing
        self._rung: Rung = "native"
        self._calibrations: dict[str, Calibration] = {}
        self._accelerators: dict[str, Accelerator] = {}
        self._traffic: dict[str, Traffic] = {}
        self._wanted: set[_Job] = set()
        self._failed: set[_Job] = set()
        self._attempts: Counter[_Job] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._probing = asyncio.Lock()
        self._bandwidth_failed = False
        self.bandwidth: Bandwidth | None = None

    @property
    def cpu(self) -> Calibration | None:
        """The CPU's costs as measured here, None before that."""
        return self._calibrations.get(_CPU)

    async def load(self) -> None:
        """Read what earlier runs have kept."""
        await self._load(_CPU)
        kept = await asyncio.to_thread(self._facts.get_fact, self._bandwidth_key)
        self.bandwidth = None if kept is None else Bandwidth(**json.loads(kept))

    async def on_accelerators(self, found: Iterable[Accelerator]) -> None:
        """Hear which accelerators can hold layers, and read at first sight what earlier runs have kept of them.

        Cards of one name are alike: what was measured of one holds for the next daemon's others, too.
        """
        for one in found:
            key = f"{self._keys[_CPU]}/{one.backend}/{one.description}"
            if self._keys.get(one.name) != key:
                self._keys[one.name] = key
                await self._load(one.name)
            self._accelerators[one.name] = one

    def of_cpu(self, bandwidth_bytes_s: float, *, here: bool) -> Calibration:
        """The CPU's costs: measured where that is ``here``, else assumed from the bandwidth."""
        return (self.cpu if here else None) or assume(bandwidth_bytes_s, "cpu")

    def of_device(self, name: str) -> Calibration | None:
        """The costs of one of this machine's accelerators, None before it was measured."""
        return self._calibrations.get(name)

    def want(self, types: Iterable[str], *, experts: bool = False, rung: Rung | None = None) -> None:
        """Measure these tensor types in the background when no engine has computed for a while, unless they are known.

        ``experts``: also what tokens cost that are routed to experts. ``rung`` is that of the engines here: a
        processor may not bear a faster one.
        """
        if rung not in (None, self._rung):
            self._rung = rung
            self._failed.clear()
        asked = frozenset(types) & _PROBED
        missing = {job for place in (_CPU, *self._accelerators) for job in self._jobs(place, asked, experts)}
        missing -= self._failed
        if missing and self._may_probe:
            self._wanted |= missing
            if not self._probing.locked():
                self._start(self._probe())

    def note(self, run: Run) -> None:
        """Learn from a real run on the CPU alone; what was too short to tell is passed over."""
        if not run.gpu_layers and (_tells_generation(run) or _tells_prompt(run)):
            self._start(self._observe(run))

    async def measured_bandwidth(self) -> Bandwidth | None:
        """How fast this machine reads memory: measured once (about a second), and not while engines compute.

        None before that and when it failed, which is not tried again.
        """
        if self._bandwidth_open:
            async with self._probing:
                if self._bandwidth_open:
                    await self._measure_bandwidth()
        return self.bandwidth

    async def aclose(self) -> None:
        """Stop measuring."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def _bandwidth_open(self) -> bool:
        return self.bandwidth is None and not self._bandwidth_failed and not self._busy()

    async def _load(self, place: str) -> None:
        text = await asyncio.to_thread(self._facts.get_fact, self._keys[place])
        kept = None if text is None else Calibration.from_json(text)
        if kept is None:
            self._calibrations.pop(place, None)
        else:
            self._calibrations[place] = kept

    def _jobs(self, place: str, types: frozenset[str], experts: bool) -> set[_Job]:
        """What is not known yet."""
        known = self._calibrations.get(place)
        jobs = {_Job(place, name) for name in types - (known.measured_types if known else frozenset())}
        if experts and not (known and known.experts_measured):
            jobs = {job for job in jobs if job.type != EXPERT_TYPE} | {_Job(place, EXPERT_TYPE, experts=True)}
        return jobs

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _measure_bandwidth(self) -> None:
        module = ("lilliput.hardware.bandwidth", "--threads", str(self._threads))
        lines = await measure(module, b"", BANDWIDTH_TIMEOUT_S, self._busy)
        if lines is None:
            return  # an engine wanted the cores: later
        if not lines:
            self._bandwidth_failed = True
            log.info("the bandwidth of memory could not be measured")
            return
        self.bandwidth = Bandwidth(float(lines[0]["bandwidth_bytes_s"]), lines[0]["cache_bound"])
        kept = msgspec.json.encode(self.bandwidth).decode()
        await asyncio.to_thread(self._facts.set_fact, self._bandwidth_key, kept)

    async def _probe(self) -> None:
        """Measure what is wanted, one after the other, whenever it is quiet."""
        await quiet(self._busy, QUIET_S)
        await self.measured_bandwidth()
        async with self._probing:
            while self._wanted:
                await quiet(self._busy, QUIET_S)
                job = min(self._wanted)
                if await self._probe_type(job):
                    self._wanted.discard(job)

    async def _probe_type(self, job: _Job) -> bool:
        """Measure a type; False when an engine wanted the cores before it was done."""
        arguments, on_cpu = ("lilliput.llama.speed_probe",), job.device == _CPU
        timeout_s = 2 * PROBE_S if on_cpu else ACCELERATOR_TIMEOUT_S
        lines = await measure(arguments, msgspec.json.encode(self._request(job)), timeout_s, self._busy)
        if lines is None:
            return False
        if on_cpu and others_computed(lines) and self._attempts[job] < _MOST_ATTEMPTS:
            self._attempts[job] += 1
            await asyncio.sleep(_OTHERS_S)
            return False
        known = self._calibrations.get(job.device)
        if on_cpu:
            bandwidth_bytes_s = self.bandwidth.bytes_s if self.bandwidth else None
        else:
            bandwidth_bytes_s = self._accelerators[job.device].bandwidth_bytes_s
        found = calibrate(lines, bandwidth_bytes_s=bandwidth_bytes_s, previous=known, trust_busy=on_cpu)
        if found is None or job.type not in found.measured_types or (job.experts and not found.experts_measured):
            self._failed.add(job)
            log.info("the speed of %s could not be measured", job)
        if found is not None and found != known:
            await self._keep(job.device, found)
        return True

    def _request(self, job: _Job) -> dict[str, Any]:
        """What the probe is asked; see ``llama/speed_probe.py``."""
        request = {
            "types": [job.type],
            "threads": self._threads,
            "rung": self._rung,
            "seconds": PROBE_S,
            "experts": job.experts,
        }
        if job.device != _CPU:
            request |= {"gpu_layers": -1, "device": job.device, "large_bytes": ACCELERATOR_BYTES}
        return request

    async def _observe(self, run: Run) -> None:
        path = str(run.model.path)
        try:
            if path not in self._traffic:
                facts = await asyncio.to_thread(read_facts, [file.path for file in run.model.files])
                self._traffic[path] = facts.traffic
        except LilliputError:
            return
        traffic, costs = self._traffic[path], self.cpu
        if costs is None:
            return
        if _tells_generation(run):
            depth = run.cached_tokens + run.prompt_tokens + run.generated_tokens // 2
            speed = run.generated_tokens / run.generation_s
            costs = observe(costs, traffic, depth, generation=speed, kv_type=run.kv_type)
        if _tells_prompt(run):
            speed = run.prompt_tokens / run.prompt_s
            costs = observe(costs, traffic, run.prompt_tokens, prompt=speed, kv_type=run.kv_type)
        await self._keep(_CPU, costs)

    async def _keep(self, place: str, calibration: Calibration) -> None:
        self._calibrations[place] = calibration
        await asyncio.to_thread(self._facts.set_fact, self._keys[place], calibration.to_json())


def _tells_generation(run: Run) -> bool:
    return run.generated_tokens >= LEAST_OBSERVED_TOKENS and run.generation_s > 0


def _tells_prompt(run: Run) -> bool:
    fresh = run.prompt_tokens
    return fresh >= LEAST_OBSERVED_PROMPT_TOKENS and run.prompt_s > 0 and run.cached_tokens <= fresh * _MOST_CACHED


def others_computed(lines: Iterable[Mapping[str, Any]]) -> bool:
    """Whether other programs had the cores while the speed probe ran, so that a later try tells more."""
    shares = [float(line["busy"]) for line in lines if "busy" in line]
    return bool(shares) and median(shares) < _LEAST_SHARE
