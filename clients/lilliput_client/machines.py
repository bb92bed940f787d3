"""What the daemon tells of a machine, its own or a described one. What it does not know is None."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Cpu:
    """A processor: physical cores of each kind (None where all are alike), and the vector instructions it announces."""

    model: str | None = None
    architecture: str | None = None
    physical_cores: int | None = None
    logical_cores: int | None = None
    usable_cores: int | None = None
    simd: tuple[str, ...] | None = None
    numa_nodes: int | None = None
    performance_cores: int | None = None
    efficiency_cores: int | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """System memory in bytes; all but the host's total and the swap respect the limit of ``limited_by``."""

    total_bytes: int | None = None
    available_bytes: int | None = None
    host_total_bytes: int | None = None
    swap_total_bytes: int | None = None
    swap_free_bytes: int | None = None
    limited_by: str | None = None
    gpu_working_set_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class NvidiaDetails:
    """What NVIDIA's driver says of a card; ``others_bytes`` is held by processes that are not the daemon's."""

    used_bytes: int | None = None
    others_bytes: int | None = None
    utilisation_percent: float | None = None
    temperature_c: float | None = None
    throttle_reasons: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A device that holds and computes layers; ``kind`` is gpu, igpu or accel, ``flops`` are of half precision."""

    name: str
    description: str = ""
    kind: str | None = None
    total_bytes: int | None = None
    free_bytes: int | None = None
    backend: str | None = None
    device_id: str | None = None
    bandwidth_bytes_s: float | None = None
    flops: float | None = None
    nvidia: NvidiaDetails | None = None


@dataclass(frozen=True, slots=True)
class Hardware:
    """A machine at one moment; ``described`` names the description it comes from, None for the daemon's own machine.

    ``unified`` says that its accelerators take their memory from the system's; ``bandwidth_cache_bound`` that only the
    bandwidth of the caches could be measured; ``accelerators_problem`` why accelerators are not known, or not as they
    are now.
    """

    system: str | None = None
    release: str | None = None
    cpu: Cpu = Cpu()
    memory: Memory = Memory()
    accelerators: tuple[Accelerator, ...] = ()
    described: str | None = None
    bandwidth_bytes_s: float | None = None
    bandwidth_cache_bound: bool | None = None
    unified: bool | None = None
    accelerators_problem: str | None = None
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """The part of one memory that models may use, in bytes, what it is made of, and what decides (``because``).

    ``promised_bytes`` are reserved by loaded models that have not yet touched them.
    """

    total_bytes: int | None = None
    available_bytes: int | None = None
    reserve_bytes: int | None = None
    promised_bytes: int | None = None
    use_fraction: float | None = None
    limit_bytes: int | None = None
    budget_bytes: int | None = None
    because: str | None = None


@dataclass(frozen=True, slots=True)
class Host(Hardware):
    """The daemon's own machine, with what models may use of each of its memories."""

    budget: Mapping[str, Budget] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Machine:
    """A described machine, to be named when asking for a plan; ``notes`` give its assumptions and sources."""

    name: str
    title: str | None = None
    system: str | None = None
    total_bytes: int | None = None
    available_bytes: int | None = None
    physical_cores: int | None = None
    logical_cores: int | None = None
    architecture: str | None = None
    cpu_model: str | None = None
    performance_cores: int | None = None
    efficiency_cores: int | None = None
    bandwidth_bytes_s: float | None = None
    unified: bool | None = None
    accelerators: tuple[Accelerator, ...] = ()
    aliases: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
