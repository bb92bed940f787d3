"""Machines that are described rather than read: to ask what would fit on another computer than this one.

``config/machines.toml`` explains the form of a table and ships well-known machines.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from lilliput.errors import InvalidRequest
from lilliput.hardware.accelerator import Accelerator
from lilliput.hardware.cpu import Cpu
from lilliput.hardware.machine import Hardware
from lilliput.hardware.memory import Memory, default_gpu_working_set_bytes
from lilliput.hardware.tables import Table
from lilliput.units import GIB, format_bytes

_SYSTEMS = {"linux": "Linux", "macos": "Darwin", "windows": "Windows"}
_OS_SHARE_BYTES = {"Linux": 2 * GIB, "Darwin": 4 * GIB, "Windows": 4 * GIB}
_MOST_FILE_BYTES = 1 << 20
_SEPARATORS = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Machine:
    """A described machine: sizes in bytes, bandwidth in bytes a second, unknown facts None.

    ``available_bytes`` is what is left of ``total_bytes`` beside the system and its programs, an assumption that
    ``notes`` spell out with the sources of the figures. ``unified``: the accelerators use system memory.
    """

    name: str
    title: str
    system: str
    total_bytes: int
    available_bytes: int
    physical_cores: int
    logical_cores: int
    architecture: str
    cpu_model: str | None = None
    performance_cores: int | None = None
    efficiency_cores: int | None = None
    bandwidth_bytes_s: float | None = None
    unified: bool = False
    accelerators: tuple[Accelerator, ...] = ()
    aliases: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_hardware(self) -> Hardware:
        """The same value that ``read_hardware`` gives for a real machine, with ``described`` set to the name."""
        on_mac = self.unified and self.system == "Darwin"
        return Hardware(
            system=self.system,
            release="",
            cpu=Cpu(
                model=self.cpu_model,
                architecture=self.architecture,
                physical_cores=self.physical_cores,
                logical_cores=self.logical_cores,
                usable_cores=self.logical_cores,
                simd=None,
                performance_cores=self.performance_cores,
                efficiency_cores=self.efficiency_cores,
            ),
            memory=Memory(
                total_bytes=self.total_bytes,
                available_bytes=self.available_bytes,
                host_total_bytes=self.total_bytes,
                gpu_working_set_bytes=self.accelerators[0].total_bytes if on_mac and self.accelerators else None,
            ),
            accelerators=self.accelerators,
            described=self.name,
            bandwidth_bytes_s=self.bandwidth_bytes_s,
            unified=self.unified,
        )


class Machines:
    """The machines of a file, found by name; case, spaces and punctuation of a name do not count."""

    def __init__(self, machines: tuple[Machine, ...]) -> None:
        self._machines = machines
        self._names = {_fold(name): machine for machine in machines for name in (machine.name, *machine.aliases)}

    @classmethod
    def from_mapping(cls, tables: Mapping[str, Any], where: str = "machines.toml") -> Machines:
        """Machines of parsed TOML: name -> table. Raises InvalidRequest that names file, machine and key."""
        machines = tuple(_machine(name, table, where) for name, table in tables.items())
        taken: dict[str, str] = {}
        for machine in machines:
            for spelling in (machine.name, *machine.aliases):
                other = taken.setdefault(_fold(spelling), machine.name)
                if other != machine.name:
                    raise InvalidRequest(
                        f"{where}: {spelling!r} means both {other} and {machine.name}", param="machine"
                    )
        return cls(machines)

    def __iter__(self) -> Iterator[Machine]:
        return iter(self._machines)

    def get(self, name: str) -> Machine:
        """The machine called ``name`` or so; raises InvalidRequest with near matches."""
        found = self._names.get(_fold(name))
        if found is not None:
            return found
        near = get_close_matches(_fold(name), self._names, n=3, cutoff=0.5)
        hints = ", ".join(dict.fromkeys(self._names[one].name for one in near))
        known = ", ".join(machine.name for machine in self)
        raise InvalidRequest(
            f"no machine is called {name!r}",
            hint=f"did you mean {hints}? known: {known}" if hints else f"known: {known}; or name a TOML file",
            param="machine",
        )


def load_machine(path: Path) -> Machine:
    """The one machine that a user's own TOML file describes: one table, or its keys without a table around them.

    Raises InvalidRequest that names the file and the key.
    """
    tables = read_tables(path)
    if "memory" in tables:
        return _machine(path.stem, tables, str(path))
    if len(tables) != 1:
        held = f"{len(tables)} tables: {', '.join(map(str, tables))}" if tables else "no table"
        raise InvalidRequest(
            f"{path} holds {held}; a machine's file holds one",
            hint='write [my-machine] and below it at least memory = "32 GiB" and cores = 8',
            param="machine",
        )
    (machine,) = Machines.from_mapping(tables, str(path))
    return machine


def read_tables(path: Path) -> dict[str, Any]:
    """The TOML of ``path``; raises InvalidRequest when it cannot be read, is no TOML, or is larger than 1 MiB."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_FILE_BYTES + 1)
        if len(data) > _MOST_FILE_BYTES:
            raise InvalidRequest(f"{path} is too large to describe a machine", param="machine")
        return tomllib.loads(data.decode("utf-8"))
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror or error}", param="machine") from error
    except ValueError as error:  # TOML and UTF-8 errors
        raise InvalidRequest(f"{path} is not a TOML file: {error}", param="machine") from error


def _fold(name: str) -> str:
    return _SEPARATORS.sub("", name.lower())


def _machine(name: str, content: Any, where: str) -> Machine:
    table = Table(content, f"{where}, [{name}]")
    if not name.isprintable() or not _fold(name):
        table.refuse("the name", "must have a letter or digit, on one line")
    system = _SYSTEMS[table.word("system", tuple(_SYSTEMS), "linux")]
    total = table.size("memory")
    available, assumed = _available(table, total, system)
    cores = table.count("cores")
    machine = Machine(
        name=name,
        title=table.text("title", name),
        system=system,
        total_bytes=total,
        available_bytes=available,
        physical_cores=cores,
        logical_cores=table.count("threads", cores),
        architecture=table.text("architecture", "arm64" if system == "Darwin" else "x86_64"),
        cpu_model=table.text("cpu", "") or None,
        performance_cores=table.count("performance_cores", 0) or None,
        efficiency_cores=table.count("efficiency_cores", 0) or None,
        bandwidth_bytes_s=table.rate("bandwidth"),
        unified=table.flag("unified", False),
        aliases=table.texts("aliases"),
        notes=(assumed, *_source(table, "memory bandwidth"), *table.texts("notes")),
    )
    _check(table, machine)
    machine = _with_accelerators(table, machine)
    table.finish()
    return machine


def _available(table: Table, total: int, system: str) -> tuple[int, str]:
    """What is left for models, and the assumption in words."""
    if table.has("available") and table.has("os_share"):
        table.refuse("available", "and os_share exclude each other")
    if table.has("available"):
        available = table.size("available")
        if available > total:
            table.refuse("available", f"is more than the memory of {format_bytes(total)}")
        return available, f"available memory: {format_bytes(available)}, as the description says"
    share = table.size("os_share", min(_OS_SHARE_BYTES[system], total // 2))
    if share > total:
        table.refuse("os_share", f"is more than the memory of {format_bytes(total)}")
    return total - share, (
        f"available memory: {format_bytes(total)} less {format_bytes(share)} for the system and its programs, assumed"
    )


def _check(table: Table, machine: Machine) -> None:
    if machine.total_bytes == 0:
        table.refuse("memory", "cannot be 0")
    if machine.logical_cores < machine.physical_cores:
        table.refuse("threads", f"cannot be fewer than the {machine.physical_cores} cores")
    kinds = (machine.performance_cores, machine.efficiency_cores)
    if kinds != (None, None) and sum(count or 0 for count in kinds) != machine.physical_cores:
        table.refuse("performance_cores", f"and efficiency_cores must add up to {machine.physical_cores} cores")


def _with_accelerators(table: Table, machine: Machine) -> Machine:
    accelerators: list[Accelerator] = []
    notes = list(machine.notes)
    for index, one in enumerate(table.tables("accelerators")):
        accelerator = _accelerator(one, machine, index)
        if accelerator.name == "ram":
            one.refuse("name", "cannot be 'ram': that is the main memory")
        if accelerator.name in {other.name for other in accelerators}:
            one.refuse("name", f"{accelerator.name!r} is taken by another accelerator of this machine")
        accelerators.append(accelerator)
        notes += _source(one, f"bandwidth of {accelerator.name}")
        one.finish()
    return replace(machine, accelerators=tuple(accelerators), notes=tuple(notes))


def _accelerator(table: Table, machine: Machine, index: int) -> Accelerator:
    """``memory`` may be left out on a unified machine: what macOS grants by default, elsewhere all of it."""
    mac = machine.system == "Darwin"
    backend = table.text("backend", "MTL" if mac else "") or None
    granted = default_gpu_working_set_bytes(machine.total_bytes) if mac else machine.total_bytes
    total = table.size("memory", granted if machine.unified else None)
    reserved = table.size("reserved", 0)
    if reserved > total:
        table.refuse("reserved", f"is more than the memory of {format_bytes(total)}")
    if machine.unified and total > machine.total_bytes:
        table.refuse("memory", f"is more than the {format_bytes(machine.total_bytes)} that it shares")
    free = total - reserved
    tflops = table.number("f16_tflops")
    return Accelerator(
        name=table.text("name", f"{backend or 'GPU'}{index}"),
        description=table.text("title", machine.cpu_model or backend or "GPU"),
        kind=table.word("kind", ("gpu", "igpu"), "igpu" if machine.unified and not mac else "gpu"),
        total_bytes=total,
        free_bytes=min(free, machine.available_bytes) if machine.unified else free,
        backend=backend,
        bandwidth_bytes_s=table.rate("bandwidth") or (machine.bandwidth_bytes_s if machine.unified else None),
        flops=None if tflops is None else tflops * 1e12,
    )


def _source(table: Table, what: str) -> list[str]:
    source = table.text("bandwidth_source", "")
    return [f"{what}: {source}"] if source else []
