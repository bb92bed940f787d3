"""Whether the processor is held back: by heat, by what somebody set, or by a clock that does not rise under load."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from lilliput.hardware.sysctl import sysctl_number
from lilliput.hardware.text import read_number, read_word

_LIMITS = frozenset({"passive", "hot", "critical"})
"""Trip points of a thermal zone at which the kernel slows the processor down or switches off."""


@dataclass(frozen=True, slots=True)
class Zone:
    """One sensor of the kernel: its kind, its temperature, and the lowest temperature at which it acts, if it does."""

    name: str
    temperature_c: float
    limit_c: float | None


@dataclass(frozen=True, slots=True)
class Heat:
    """One reading; what the system does not tell is None.

    ``throttle_events`` counts how often processors slowed themselves down for heat, over all of them, and only grows.
    ``clock_hz`` is that of the fastest core now, ``full_clock_hz`` what the fastest can reach, ``allowed_clock_hz``
    what the system's settings let it reach. ``thermal_level`` is that of Macs with Intel processors: 0 is cool.
    """

    zones: tuple[Zone, ...] = ()
    throttle_events: int | None = None
    clock_hz: float | None = None
    full_clock_hz: float | None = None
    allowed_clock_hz: float | None = None
    thermal_level: int | None = None

    @property
    def known(self) -> bool:
        """Whether anything is told at all."""
        return bool(self.zones) or (self.throttle_events, self.full_clock_hz, self.thermal_level) != (None, None, None)


def read_heat(root: Path = Path("/")) -> Heat:
    """The state of the machine whose ``/sys`` lies under ``root``; psutil tells the clocks where that has none."""
    cpus = root / "sys/devices/system/cpu"
    clock, full = _highest(cpus, "scaling_cur_freq"), _highest(cpus, "cpuinfo_max_freq")
    allowed = _highest(cpus, "scaling_max_freq")
    if full is None and not cpus.is_dir():
        clock, full, allowed = _clocks_of_psutil()
    return Heat(
        zones=_zones(root / "sys/class/thermal"),
        throttle_events=_events(cpus),
        clock_hz=clock,
        full_clock_hz=full,
        allowed_clock_hz=allowed,
        thermal_level=sysctl_number("machdep.xcpm.cpu_thermal_level"),
    )


def _zones(folder: Path) -> tuple[Zone, ...]:
    found = []
    for zone in sorted(folder.glob("thermal_zone[0-9]*")):
        temperature = read_number(zone / "temp")
        if temperature is not None and temperature > 0:  # some firmware reports 0 or less for a sensor that is off
            found.append(Zone(read_word(zone / "type") or zone.name, temperature / 1000, _limit_c(zone)))
    return tuple(found)


def _limit_c(zone: Path) -> float | None:
    limits = []
    for kind in zone.glob("trip_point_*_type"):
        if read_word(kind) in _LIMITS:
            limit = read_number(kind.with_name(kind.name.replace("_type", "_temp")))
            limits += [limit / 1000] if limit is not None and limit > 0 else []
    return min(limits, default=None)


def _events(cpus: Path) -> int | None:
    counts = [read_number(path) for path in cpus.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _highest(cpus: Path, name: str) -> float | None:
    """The highest of all cores, in hertz: the kernel writes kilohertz."""
    found = [read_number(path) for path in cpus.glob(f"cpu[0-9]*/cpufreq/{name}")]
    return max((number * 1000.0 for number in found if number), default=None)


def _clocks_of_psutil() -> tuple[float | None, float | None, float | None]:
    """Current and highest clock in hertz; some systems have no such call, others answer nothing or zero."""
    ask: Any = getattr(psutil, "cpu_freq", None)
    try:
        clocks = None if ask is None else ask()
    except (NotImplementedError, OSError, RuntimeError):
        return None, None, None
    if clocks is None or not clocks.max:
        return None, None, None
    return clocks.current * 1e6 or None, clocks.max * 1e6, None
