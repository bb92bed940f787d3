"""A machine for people: all that is known of it, or the gist in a line."""

from __future__ import annotations

from collections.abc import Iterator

from lilliput_client import Accelerator, Cpu, Hardware, Host, Memory, NvidiaDetails
from lilliput_client.cli import formats

_UNKNOWN = "unknown"

Fact = tuple[str, str]


def hardware_facts(hardware: Hardware) -> Iterator[Fact]:
    """Everything, fact by fact; what is not known is said to be unknown."""
    if hardware.described:
        yield "described as", hardware.described
    yield "system", " ".join(part for part in (hardware.system, hardware.release) if part) or _UNKNOWN
    yield from _cpu(hardware.cpu)
    yield from _memory(hardware.memory)
    bound = " of the caches: memory may be slower" if hardware.bandwidth_cache_bound else ""
    yield "memory bandwidth", _known(formats.bandwidth(hardware.bandwidth_bytes_s)) + bound
    if hardware.accelerators_problem:
        yield "accelerators", hardware.accelerators_problem
    elif not hardware.accelerators:
        yield "accelerators", "none"
    for accelerator in hardware.accelerators:
        yield from _accelerator(accelerator, unified=bool(hardware.unified))
    if isinstance(hardware, Host):
        for name, budget in hardware.budget.items():
            because = f" ({budget.because})" if budget.because else ""
            yield f"models may use of {name}", _size(budget.budget_bytes) + because
    yield "fingerprint", _text(hardware.fingerprint)


def gist(hardware: Hardware) -> str:
    """The machine in one line."""
    cpu, memory = hardware.cpu, hardware.memory
    parts = [cpu.model or cpu.architecture or hardware.system or "a machine"]
    if cpu.physical_cores:
        parts.append(f"{cpu.physical_cores} cores")
    parts.append(f"{formats.size(memory.total_bytes)} of memory, {formats.size(memory.available_bytes)} available")
    if hardware.bandwidth_bytes_s:
        of_caches = " in caches" if hardware.bandwidth_cache_bound else ""
        parts.append(formats.bandwidth(hardware.bandwidth_bytes_s) + of_caches)
    for one in hardware.accelerators:
        shared = " of the same memory" if hardware.unified else ""
        parts.append(f"{one.name} ({one.description or 'accelerator'}) with {formats.size(one.total_bytes)}{shared}")
    if not hardware.accelerators:
        parts.append("no accelerator")
    name = f"{hardware.described}: " if hardware.described else ""
    return name + ", ".join(parts)


def _cpu(cpu: Cpu) -> Iterator[Fact]:
    yield "processor", _text(cpu.model)
    yield "architecture", _text(cpu.architecture)
    yield "cores", _cores(cpu)
    yield "core kinds", _kinds(cpu)
    simd = cpu.simd
    matrix = tuple(flag for flag in simd or () if flag.startswith(("amx", "sme")))
    yield (
        "vector instructions",
        _UNKNOWN if simd is None else " ".join(one for one in simd if one not in matrix) or "none",
    )
    yield "matrix instructions", _UNKNOWN if simd is None else " ".join(matrix) or "none"
    yield "NUMA nodes", _text(cpu.numa_nodes)


def _cores(cpu: Cpu) -> str:
    counts = (("physical", cpu.physical_cores), ("logical", cpu.logical_cores), ("usable", cpu.usable_cores))
    return ", ".join(f"{_text(count)} {name}" for name, count in counts)


def _kinds(cpu: Cpu) -> str:
    if cpu.performance_cores is None and cpu.efficiency_cores is None:
        return _UNKNOWN if cpu.physical_cores is None else "none told apart"
    return f"{_text(cpu.performance_cores)} performance, {_text(cpu.efficiency_cores)} efficiency"


def _memory(memory: Memory) -> Iterator[Fact]:
    yield "memory total", _size(memory.total_bytes)
    yield "memory available", _size(memory.available_bytes)
    if memory.host_total_bytes is not None and memory.host_total_bytes != memory.total_bytes:
        yield "memory of the host", formats.size(memory.host_total_bytes)
    yield "memory limited by", memory.limited_by or "nothing but the machine"
    yield "swap", f"{_size(memory.swap_total_bytes)}, {_size(memory.swap_free_bytes)} free"
    if memory.gpu_working_set_bytes is not None:
        yield "memory the GPU may hold", formats.size(memory.gpu_working_set_bytes)


def _accelerator(one: Accelerator, *, unified: bool) -> Iterator[Fact]:
    kind = " ".join(part for part in (one.backend, one.kind) if part)
    description = one.description or _UNKNOWN
    yield one.name, f"{description} ({kind})" if kind else description
    shared = ", shared with the system" if unified else ""
    yield f"{one.name} memory", f"{_size(one.total_bytes)}, {_size(one.free_bytes)} free{shared}"
    yield f"{one.name} bandwidth", _known(formats.bandwidth(one.bandwidth_bytes_s))
    if one.flops is not None:
        yield f"{one.name} half precision", f"{one.flops / 1e12:.3g} TFLOPS"
    if one.device_id is not None:
        yield f"{one.name} device", one.device_id
    if one.nvidia is not None:
        yield from _nvidia(one.name, one.nvidia)


def _nvidia(name: str, details: NvidiaDetails) -> Iterator[Fact]:
    others = _size(details.others_bytes)
    yield f"{name} in use", f"{_size(details.used_bytes)}, of other processes {others}"
    yield (
        f"{name} utilisation",
        _UNKNOWN if details.utilisation_percent is None else f"{details.utilisation_percent:g}%",
    )
    yield f"{name} temperature", _UNKNOWN if details.temperature_c is None else f"{details.temperature_c:g} °C"
    reasons = details.throttle_reasons
    yield f"{name} slowed by", _UNKNOWN if reasons is None else ", ".join(reasons) or "nothing"


def _size(count: int | None) -> str:
    return _known(formats.size(count))


def _text(value: object | None) -> str:
    return _known(formats.text(value))


def _known(text: str) -> str:
    return _UNKNOWN if text == formats.UNKNOWN else text
