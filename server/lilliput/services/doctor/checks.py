"""The checks: each reads what it is about, in threads of its own, and hands it to its decider."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from lilliput.catalogue import InstalledModel
from lilliput.engine import verdict_key
from lilliput.hardware import (
    Hardware,
    PressureReader,
    cpu_quota_cores,
    memory_limits,
    read_cards,
    read_cpu,
    read_heat,
    read_memory,
)
from lilliput.hub import HubAnswer, detached
from lilliput.llama import read_build
from lilliput.pool import EngineInfo
from lilliput.services.doctor.accelerators import judge_accelerators
from lilliput.services.doctor.configuration import judge_build, judge_settings
from lilliput.services.doctor.doctor import Check, Doctor
from lilliput.services.doctor.finding import Opinion
from lilliput.services.doctor.memory import judge_container, judge_pressure, judge_swap, judge_use
from lilliput.services.doctor.network import judge_clock, judge_hub, judge_token
from lilliput.services.doctor.processor import judge_amx, judge_heat, judge_threads
from lilliput.services.doctor.readings import measure_largest, newest, read_files, read_place
from lilliput.services.doctor.storage import judge_disk_speed, judge_files, judge_space
from lilliput.services.machine import usable

WINDOW_S = 1.0
"""How long counters are watched."""

HUB_S = 3.0
"""How long the Hub may take to answer; its checks are given a little more."""


class Facts(Protocol):
    """What is kept on disk; calls may block."""

    @property
    def path(self) -> Path:
        """The database's file."""
        ...

    def installed(self) -> tuple[InstalledModel, ...]:
        """All installed models."""
        ...

    def find_facts(self, prefix: str) -> Mapping[str, str]:
        """What was remembered under keys that begin so."""
        ...


class Greeted(Protocol):
    """The Hub."""

    @property
    def cache_dir(self) -> Path:
        """Where its files are kept."""
        ...

    async def greet(self, timeout_s: float) -> HubAnswer:
        """Ask whether it answers."""
        ...


class Engines(Protocol):
    """The engines that are loaded."""

    def list(self) -> Sequence[EngineInfo]:
        """All of them, loading ones too."""
        ...


class Accelerators(Protocol):
    """What llama.cpp can compute on."""

    async def refresh(self) -> None:
        """Have it looked at before the hardware is read."""
        ...


@dataclass(frozen=True, slots=True)
class Patient:
    """What is examined: the daemon's ``settings`` by name, the keys of what was learned here (``machine``, ``build``),
    and where the rest can be asked. ``hardware`` reads this machine and may block. ``root`` is where ``/proc``,
    ``/sys`` and ``/dev`` lie.
    """

    settings: Mapping[str, Any]
    machine: str
    build: str
    store: Facts
    hub: Greeted
    pool: Engines
    devices: Accelerators
    hardware: Callable[[], Hardware]
    root: Path = Path("/")


def make_doctor(patient: Patient) -> Doctor:
    """A doctor with all checks, in the order in which they are told."""
    machine, disks, hub = _Machine(patient), _Disks(patient), _Hub(patient)
    checks = (
        Check("accelerator", "accelerators", machine.accelerators),
        Check("memory", "memory in use", machine.memory),
        Check("pressure", "memory pressure", machine.pressure),
        Check("swap", "swap", machine.swap),
        Check("container", "container limits", machine.container),
        Check("threads", "threads", machine.threads),
        Check("amx", "AMX", machine.amx),
        Check("heat", "heat and clocks", machine.heat),
        Check("disk-speed", "speed of the disk", disks.speed),
        Check("disk-space", "room on disks", disks.space),
        Check("files", "files of models", disks.files),
        Check("build", "build of llama.cpp", machine.build),
        Check("settings", "settings", machine.settings),
        Check("hub", "Hub", hub.reached),
        Check("token", "token of the Hub", hub.token),
        Check("clock", "clock", hub.clock),
    )
    return Doctor(checks)


class _Machine:
    """What the machine has and does."""

    def __init__(self, patient: Patient) -> None:
        self._patient = patient
        self._pressure = PressureReader(patient.root)

    async def accelerators(self) -> Opinion:
        await self._patient.devices.refresh()
        hardware = await detached(self._patient.hardware)
        cards = await detached(read_cards, self._patient.root)
        build = await detached(read_build)
        listed = usable(hardware.accelerators)
        return judge_accelerators(cards, listed, build.backends, hardware.accelerators_problem)

    async def memory(self) -> Opinion:
        held = sum(engine.memory_bytes or 0 for engine in self._patient.pool.list())
        return judge_use(await detached(read_memory, self._patient.root), held)

    async def pressure(self) -> Opinion:
        return judge_pressure(await detached(self._pressure.read))

    async def swap(self) -> Opinion:
        before, busy = await detached(self._pressure.read), self._busy()
        await asyncio.sleep(WINDOW_S)
        return judge_swap(before, await detached(self._pressure.read), busy=busy and self._busy())

    async def heat(self) -> Opinion:
        read = partial(read_heat, self._patient.root)
        before, busy = await detached(read), self._busy()
        await asyncio.sleep(WINDOW_S)
        after, hardware = await detached(read), await detached(self._patient.hardware)
        return judge_heat(before, after, hardware.accelerators, busy=busy and self._busy())

    async def container(self) -> Opinion:
        root = self._patient.root
        cpu, models = await detached(read_cpu, root), await detached(self._patient.store.installed)
        return judge_container(
            await detached(read_memory, root),
            await detached(memory_limits, root),
            await detached(cpu_quota_cores, root),
            cpu,
            self._patient.settings["threads"] or cpu.compute_threads,
            _largest_bytes(models),
        )

    async def threads(self) -> Opinion:
        tuned = {one.model: one.settings["threads"] for one in self._patient.pool.list() if "threads" in one.settings}
        return judge_threads(self._patient.settings["threads"], await detached(read_cpu, self._patient.root), tuned)

    async def amx(self) -> Opinion:
        cpu = await detached(read_cpu, self._patient.root)
        learned = verdict_key(self._patient.machine, self._patient.build, ())
        held = await detached(self._patient.store.find_facts, learned)
        return judge_amx(cpu.simd, held.values())

    async def build(self) -> Opinion:
        build = await detached(read_build)
        return judge_build(
            build.versions, build.pinned, build.folders, build.libraries, build.strangers, build.backends
        )

    async def settings(self) -> Opinion:
        return judge_settings(self._patient.settings)

    def _busy(self) -> bool:
        return any(engine.active for engine in self._patient.pool.list())


class _Disks:
    """What lies on disks."""

    def __init__(self, patient: Patient) -> None:
        self._patient = patient

    async def space(self) -> Opinion:
        own = await detached(read_place, "data", Path(self._patient.settings["data_dir"]))
        return judge_space((own, await detached(read_place, "models", self._patient.hub.cache_dir)))

    async def speed(self) -> Opinion:
        models = await detached(self._patient.store.installed)
        speed, path = await detached(measure_largest, models)
        return judge_disk_speed(speed, path, _largest_bytes(models))

    async def files(self) -> Opinion:
        models = await detached(self._patient.store.installed)
        return judge_files(await detached(read_files, models))


class _Hub:
    """What the Hub says, asked once for all its checks."""

    def __init__(self, patient: Patient) -> None:
        self._patient = patient
        self._asking: asyncio.Task[HubAnswer] | None = None

    async def reached(self) -> Opinion:
        return judge_hub(await self._ask())

    async def token(self) -> Opinion:
        return judge_token(await self._ask())

    async def clock(self) -> Opinion:
        answer = await self._ask()
        models = await detached(self._patient.store.installed)
        paths = [self._patient.store.path, *(file.path for model in models for file in model.files)]
        return judge_clock(answer, await detached(newest, paths), time.time())

    async def _ask(self) -> HubAnswer:
        if self._asking is None:
            self._asking = asyncio.create_task(self._patient.hub.greet(HUB_S))
            self._asking.add_done_callback(self._forget)
        return await asyncio.shield(self._asking)

    def _forget(self, _task: asyncio.Task[HubAnswer]) -> None:
        self._asking = None  # those who wait hold it; the next examination asks anew


def _largest_bytes(models: Sequence[InstalledModel]) -> int:
    return max((model.size_bytes for model in models), default=0)
