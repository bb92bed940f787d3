from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from lilliput.hardware import Heat, Zone, heat, read_heat

Plant = Callable[[dict[str, str]], Path]

ZONE = "sys/class/thermal/thermal_zone"
CPU = "sys/devices/system/cpu/cpu"


def test_sensors_events_and_clocks_are_read(plant: Plant) -> None:
    root = plant(
        {
            f"{ZONE}0/type": "x86_pkg_temp\n",
            f"{ZONE}0/temp": "71000\n",
            f"{ZONE}0/trip_point_0_type": "active\n",
            f"{ZONE}0/trip_point_0_temp": "50000\n",
            f"{ZONE}0/trip_point_1_type": "passive\n",
            f"{ZONE}0/trip_point_1_temp": "95000\n",
            f"{ZONE}0/trip_point_2_type": "critical\n",
            f"{ZONE}0/trip_point_2_temp": "105000\n",
            f"{ZONE}1/type": "acpitz\n",
            f"{ZONE}1/temp": "-273200\n",
            f"{CPU}0/thermal_throttle/core_throttle_count": "3\n",
            f"{CPU}1/thermal_throttle/core_throttle_count": "4\n",
            f"{CPU}0/cpufreq/scaling_cur_freq": "1200000\n",
            f"{CPU}1/cpufreq/scaling_cur_freq": "3400000\n",
            f"{CPU}1/cpufreq/cpuinfo_max_freq": "4000000\n",
            f"{CPU}1/cpufreq/scaling_max_freq": "3600000\n",
        }
    )
    assert read_heat(root) == Heat((Zone("x86_pkg_temp", 71.0, 95.0),), 7, 3.4e9, 4.0e9, 3.6e9, None)
    assert read_heat(root).known


def test_a_virtual_machine_tells_nothing(plant: Plant) -> None:
    found = read_heat(plant({f"{CPU}0/online": "1\n", f"{ZONE}0/temp": "no number\n"}))
    assert found == Heat()
    assert not found.known


@pytest.mark.parametrize(
    ("clocks", "expected"),
    [
        (lambda: SimpleNamespace(current=3200.0, min=0.0, max=4000.0), (3.2e9, 4.0e9)),
        (lambda: SimpleNamespace(current=0.0, min=0.0, max=0.0), (None, None)),
        (lambda: None, (None, None)),
    ],
)
def test_elsewhere_psutil_tells_the_clocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clocks: Callable[[], object], expected: tuple[float | None, ...]
) -> None:
    monkeypatch.setattr(psutil, "cpu_freq", clocks, raising=False)
    found = read_heat(tmp_path)
    assert (found.clock_hz, found.full_clock_hz) == expected


def test_a_system_without_clocks_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise NotImplementedError

    monkeypatch.setattr(psutil, "cpu_freq", refuse, raising=False)
    assert not read_heat(tmp_path).known
    monkeypatch.delattr(psutil, "cpu_freq")
    assert not read_heat(tmp_path).known


def test_macs_with_intel_processors_have_a_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heat, "sysctl_number", {"machdep.xcpm.cpu_thermal_level": 60}.get)
    monkeypatch.setattr(psutil, "cpu_freq", lambda: None, raising=False)
    assert read_heat(tmp_path) == Heat(thermal_level=60)
