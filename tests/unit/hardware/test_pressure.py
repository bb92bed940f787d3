from __future__ import annotations

import mmap
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from lilliput.hardware import PressureReader, Stalls, pressure
from lilliput.units import GIB

Plant = Callable[[dict[str, str]], Path]

CALM = """some avg10=0.00 avg60=0.50 avg300=1.00 total=2000000
full avg10=0.00 avg60=0.00 avg300=0.00 total=500000
"""
HARD = """some avg10=34.50 avg60=12.00 avg300=1.00 total=9000000
full avg10=12.25 avg60=3.00 avg300=0.00 total=4000000
"""
VMSTAT = "nr_free_pages 12\npswpin 100\npswpout 250\npgfault 9\n"
MEMINFO = "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\nSwapTotal: 1048576 kB\nSwapFree: 1048576 kB\n"


def test_stalls_swap_and_memory_are_read_at_once(plant: Plant) -> None:
    root = plant({"proc/pressure/memory": CALM, "proc/vmstat": VMSTAT, "proc/meminfo": MEMINFO})
    found = PressureReader(root).read()
    assert found.system == Stalls(0.0, 0.5, 2.0, 0.0, 0.0, 0.5)
    assert (found.group, found.level) == (None, None)
    assert (found.swapped_in_bytes, found.swapped_out_bytes) == (100 * mmap.PAGESIZE, 250 * mmap.PAGESIZE)
    assert (found.memory.total_bytes, found.memory.available_bytes) == (16 * GIB, 8 * GIB)


def test_the_group_that_stands_still_for_longer_is_the_worst(plant: Plant) -> None:
    root = plant(
        {
            "proc/pressure/memory": CALM,
            "proc/self/cgroup": "0::/a/b\n",
            "sys/fs/cgroup/a/b/memory.max": "max\n",
            "sys/fs/cgroup/a/memory.pressure": HARD,
        }
    )
    found = PressureReader(root).read()
    assert found.group == Stalls(34.5, 12.0, 9.0, 12.25, 3.0, 4.0)
    assert found.worst == found.group
    assert replace(found, group=None).worst == found.system
    assert replace(found, group=None, system=None).worst is None


def test_limits_are_read_anew_each_time(plant: Plant) -> None:
    group = "sys/fs/cgroup/a"
    files = {"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/a\n", f"{group}/memory.current": "0\n"}
    root = plant({**files, f"{group}/memory.max": f"{2 * GIB}\n"})
    reader = PressureReader(root)
    assert reader.read().memory.total_bytes == 2 * GIB
    (root / group / "memory.max").write_text(f"{GIB}\n")
    assert reader.read().memory.total_bytes == GIB


@pytest.mark.parametrize("text", ["", "some avg10=nan\n", CALM.splitlines()[0], "full avg10=1 avg60=2"])
def test_a_pressure_file_that_cannot_be_read_is_unknown(plant: Plant, text: str) -> None:
    assert PressureReader(plant({"proc/pressure/memory": text, "proc/meminfo": MEMINFO})).read().system is None


@pytest.mark.parametrize("text", ["", "pswpin 3\n", "pswpin x\npswpout 1\n"])
def test_swap_counters_that_are_not_there_are_unknown(plant: Plant, text: str) -> None:
    found = PressureReader(plant({"proc/vmstat": text, "proc/meminfo": MEMINFO})).read()
    assert (found.swapped_in_bytes, found.swapped_out_bytes) == (None, None)


@pytest.mark.parametrize(
    ("system", "expected"), [("FreeBSD", (7, 9)), ("Darwin", (None, None)), ("Windows", (None, None))]
)
def test_without_proc_psutil_tells_of_swap_where_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str, expected: tuple[int | None, int | None]
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=4 * GIB, available=3 * GIB))
    monkeypatch.setattr(psutil, "swap_memory", lambda: SimpleNamespace(total=0, free=0, sin=7, sout=9))
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(pressure, "sysctl_number", lambda _name: None)
    monkeypatch.setattr("lilliput.hardware.memory.sysctl_number", lambda _name: None)
    found = PressureReader(tmp_path).read()
    assert (found.swapped_in_bytes, found.swapped_out_bytes) == expected
    assert found.memory.available_bytes == 3 * GIB


def test_macos_has_a_word_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pressure, "sysctl_number", {"kern.memorystatus_vm_pressure_level": 4}.get)
    assert PressureReader(tmp_path).read().level == "critical"


def test_a_rate_is_what_came_back_between_two_readings(plant: Plant) -> None:
    before = PressureReader(plant({"proc/meminfo": MEMINFO, "proc/vmstat": VMSTAT})).read()
    assert before.swapped_in_bytes is not None
    after = replace(before, at_s=before.at_s + 2, swapped_in_bytes=before.swapped_in_bytes + 3000)
    assert after.swapped_in_since(before) == 1500
    assert before.swapped_in_since(before) is None
    assert replace(after, swapped_in_bytes=None).swapped_in_since(before) is None
    assert replace(after, swapped_in_bytes=0).swapped_in_since(before) == 0, "counters began anew"
