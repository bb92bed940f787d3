"""What computing costs on this machine: probed once for each tensor type, then corrected by real runs."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from statistics import median
from typing import Any

import msgspec

from lilliput.errors import LilliputError
from lilliput.fit import Calibration, Traffic, assume, calibrate, observe
from lilliput.llama import Rung
from lilliput.services.generate import Run
from lilliput.services.model_facts import read_facts
from lilliput.services.oracle import Facts
from lilliput.services.probe_child import measure, quiet

log = logging.getLogger(__name__)

BANDWIDTH_TIMEOUT_S = 20.0
PROBE_S = 20.0
LEAST_OBSERVED_TOKENS = 32
QUIET_S = 3.0
_MOST_ATTEMPTS = 5
_OTHERS_S = 60.0
_LEAST_SHARE = 0.85
"""Of the time of its threads that a probe must have had; else other programs computed, and what it saw was them."""
_ASSUMED_BANDWIDTH_BYTES_S = 20e9
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


class Speeds:
    """Owner of the CPU's calibration and of the measured bandwidth; used from one event loop.

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
        self._key = f"speed/2/{machine}/{build}"
        self._bandwidth_key = f"bandwidth/1/{machine}"
        self._threads = threads
        self._busy = busy
        self._may_probe = probing
        self._rung: Rung = "native"
        self._calibration: Calibration | None = None
        self._traffic: dict[str, Traffic] = {}
        self._wanted: set[str] = set()
        self._failed: set[str] = set()
        self._attempts: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._probing = asyncio.Lock()
        self.bandwidth_bytes_s: float | None = None

    @property
    def cpu(self) -> Calibration | None:
        """The CPU's costs as measured here, None before that."""
        return self._calibration

    async def load(self) -> None:
        """Read what earlier runs have kept."""
        text = await asyncio.to_thread(self._facts.get_fact, self._key)
        self._calibration = None if text is None else Calibration.from_json(text)
        bandwidth = await asyncio.to_thread(self._facts.get_fact, self._bandwidth_key)
        self.bandwidth_bytes_s = None if bandwidth is None else float(bandwidth)

    def of_cpu(self, bandwidth_bytes_s: float | None, *, here: bool) -> Calibration:
        """The CPU's costs: measured where that is ``here``, else assumed from the bandwidth."""
        if here and self._calibration is not None:
            return self._calibration
        return assume(bandwidth_bytes_s or _ASSUMED_BANDWIDTH_BYTES_S, "cpu")

    def want(self, types: Iterable[str], *, rung: Rung | None = None) -> None:
        """Measure these tensor types in the background when no engine has computed for a while, unless they are known.

        ``rung`` is that of the engines here: a processor may not bear a faster one.
        """
        if rung not in (None, self._rung):
            self._rung = rung
            self._failed.clear()
        known = self._calibration.measured_types if self._calibration else frozenset()
        missing = (set(types) & _PROBED) - known - self._failed
        if missing and self._may_probe:
            self._wanted |= missing
            if not self._probing.locked():
                self._start(self._probe())

    def note(self, run: Run) -> None:
        """Learn from a real run; short ones are passed over."""
        if run.generated_tokens >= LEAST_OBSERVED_TOKENS and run.generation_s > 0:
            self._start(self._observe(run))

    async def measured_bandwidth(self) -> float | None:
        """Bytes a second that this machine reads from memory, measured once (about a second); None when it failed."""
        if self.bandwidth_bytes_s is None:
            async with self._probing:
                if self.bandwidth_bytes_s is None:
                    await self._measure_bandwidth()
        return self.bandwidth_bytes_s

    async def aclose(self) -> None:
        """Stop measuring."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _measure_bandwidth(self) -> None:
        module = ("lilliput.hardware.bandwidth", "--threads", str(self._threads))
        for line in await measure(module, b"", BANDWIDTH_TIMEOUT_S) or ():
            if line.get("beyond_cache"):
                self.bandwidth_bytes_s = float(line["bandwidth_bytes_s"])
                await asyncio.to_thread(self._facts.set_fact, self._bandwidth_key, repr(self.bandwidth_bytes_s))

    async def _probe(self) -> None:
        """Measure what is wanted, one type after the other, whenever it is quiet."""
        await quiet(self._busy, QUIET_S)
        await self.measured_bandwidth()
        async with self._probing:
            while self._wanted:
                await quiet(self._busy, QUIET_S)
                name = min(self._wanted)
                if await self._probe_type(name):
                    self._wanted.discard(name)

    async def _probe_type(self, name: str) -> bool:
        """Measure a type; False when an engine wanted the cores before it was done."""
        request = {"types": [name], "threads": self._threads, "rung": self._rung, "seconds": PROBE_S}
        arguments = ("lilliput.llama.speed_probe",)
        lines = await measure(arguments, msgspec.json.encode(request), 2 * PROBE_S, self._busy)
        if lines is None:
            return False
        if others_computed(lines) and self._attempts[name] < _MOST_ATTEMPTS:
            self._attempts[name] += 1
            await asyncio.sleep(_OTHERS_S)
            return False
        found = calibrate(lines, bandwidth_bytes_s=self.bandwidth_bytes_s, previous=self._calibration)
        if found is None or name not in found.measured_types:
            self._failed.add(name)
            log.info("the speed of %s could not be measured", name)
        else:
            await self._keep(found)
        return True

    async def _observe(self, run: Run) -> None:
        if self._calibration is None:
            return
        path = str(run.model.path)
        try:
            if path not in self._traffic:
                facts = await asyncio.to_thread(read_facts, [file.path for file in run.model.files])
                self._traffic[path] = facts.traffic
        except LilliputError:
            return
        depth = run.prompt_tokens + run.generated_tokens // 2
        speed = run.generated_tokens / run.generation_s
        await self._keep(observe(self._calibration, self._traffic[path], depth, generation=speed))

    async def _keep(self, calibration: Calibration) -> None:
        self._calibration = calibration
        await asyncio.to_thread(self._facts.set_fact, self._key, calibration.to_json())


def others_computed(lines: Iterable[Mapping[str, Any]]) -> bool:
    """Whether other programs had the cores while the speed probe ran, so that a later try tells more."""
    shares = [float(line["busy"]) for line in lines if "busy" in line]
    return bool(shares) and median(shares) < _LEAST_SHARE
