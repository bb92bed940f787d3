"""What goes around plans, in tables: how right they were, and the machines they can be asked for."""

from __future__ import annotations

import time
from collections.abc import Iterable

from rich.table import Table

from lilliput_client import Accelerator, Accuracy, Load, Machine, PlanError
from lilliput_client.cli import formats
from lilliput_client.cli.output import table


def accuracy_table(rows: Iterable[Accuracy]) -> Table:
    """The errors of predictions by part, for each architecture, backend, build and memory."""
    now = time.time()
    headers = ("ARCHITECTURE", "BACKEND", "BUILD", "LOADS", "LAST", "MEMORY", "PART", "MEASURED", "MEDIAN", "WORST")
    cells: list[tuple[str, ...]] = []
    for row in rows:
        last = row.last or Load("")
        known = (formats.text(row.backend), formats.text(row.build), str(row.loads), formats.ago(now, last.at))
        group: tuple[str, ...] = (row.architecture, *known)
        for memory, errors in row.errors.items():
            name = memory
            for part, error in errors.items():
                measured = getattr(last.measured.get(memory), part, None)
                cells.append((*group, name, part, formats.size(measured), *_error(error)))
                group, name = ("",) * len(group), ""
    return table(headers, cells, right=(3, 7, 8, 9), gap=1)


def _error(error: PlanError | None) -> tuple[str, str]:
    if error is None:
        return formats.UNKNOWN, formats.UNKNOWN
    return formats.change(error.median_bytes), formats.change(error.worst_bytes)


def machines_table(machines: Iterable[Machine]) -> Table:
    """The described machines by name."""
    headers = ("NAME", "MEMORY", "AVAILABLE", "BANDWIDTH", "CORES", "ACCELERATORS", "TITLE")
    rows = [
        (
            machine.name,
            formats.size(machine.total_bytes),
            formats.size(machine.available_bytes),
            formats.bandwidth(machine.bandwidth_bytes_s),
            formats.text(machine.physical_cores),
            ", ".join(map(_accelerator, machine.accelerators)) or "none",
            formats.text(machine.title),
        )
        for machine in machines
    ]
    return table(headers, rows, right=(1, 2, 3, 4), gap=2)


def _accelerator(one: Accelerator) -> str:
    return f"{one.name} {formats.size(one.total_bytes)}"
