"""What goes around plans, in tables: how right they were, and the machines they can be asked for."""

from __future__ import annotations

import time
from collections.abc import Iterable

from rich.table import Table

from lilliput_client import Accelerator, Accuracy, Machine, Need
from lilliput_client.cli import formats
from lilliput_client.cli.output import table


def accuracy_table(rows: Iterable[Accuracy]) -> Table:
    """Planned against measured memory, a row for each architecture, backend and build."""
    now = time.time()
    headers = ("ARCHITECTURE", "BACKEND", "BUILD", "LOADS", "PLANNED", "MEASURED", "OFF", "WORST", "CORRECTION", "LAST")
    cells = [
        (
            row.architecture,
            _backend(row),
            formats.text(row.build),
            str(row.loads),
            _total(row.planned),
            _total(row.measured),
            formats.rise(row.error_percent),
            formats.rise(row.worst_percent),
            formats.size(row.correction_bytes),
            formats.ago(now, row.updated_at),
        )
        for row in rows
    ]
    return table(headers, cells, right=range(3, 9), whole=range(3, 9), gap=1)


def deviations_table(rows: Iterable[Accuracy]) -> Table:
    """By which bytes measured memory was off the plans, by part of each memory."""
    headers = ("ARCHITECTURE", "BACKEND", "MEMORY", "PART", "MEDIAN", "WORST")
    cells: list[tuple[str, ...]] = []
    for row in rows:
        for memory, parts in row.errors_bytes.items():
            told: tuple[str, ...] = (row.architecture, _backend(row), memory)
            for part, error in parts.items():
                cells.append((*told, part, formats.change(error.median), formats.change(error.worst)))
    return table(headers, cells, right=(4, 5), gap=2)


def _backend(row: Accuracy) -> str:
    """What computed, and how much of the model where that was not nothing."""
    return f"{row.backend} ({row.offload})" if row.offload not in (None, "none") else formats.text(row.backend)


def _total(need: Need | None) -> str:
    return formats.size(None if need is None else need.total_bytes)


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
