"""The checks read what they are about: a fake machine, a store that fails, a Hub that is asked once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lilliput.catalogue import InstalledFile, InstalledModel
from lilliput.errors import StorageError
from lilliput.hardware import Hardware, read_hardware
from lilliput.hub import HubAnswer
from lilliput.pool import EngineInfo
from lilliput.services.doctor import Patient, Report, checks, make_doctor
from lilliput.settings import Settings
from lilliput.units import GIB

ENGINE = EngineInfo(
    "m", "generate", None, "ready", None, 256, 4, 1, 0, 0, 3 * GIB, 1.0, {"threads": "3"}, None, 0.0, None
)


@dataclass
class FakeStore:
    path: Path
    models: tuple[InstalledModel, ...] = ()
    remembered: Mapping[str, str] = field(default_factory=dict)
    fails: bool = False

    def installed(self) -> tuple[InstalledModel, ...]:
        if self.fails:
            raise StorageError("the disk is gone")
        return self.models

    def find_facts(self, prefix: str) -> Mapping[str, str]:
        return {key: value for key, value in self.remembered.items() if key.startswith(prefix)}


@dataclass
class FakeHub:
    cache_dir: Path
    asked: int = 0

    async def greet(self, timeout_s: float) -> HubAnswer:
        assert 0 < timeout_s < 5
        self.asked += 1
        return HubAnswer("http://hub", False, 0.1, status=401, skew_s=0.0)


class FakePool:
    def list(self) -> tuple[EngineInfo, ...]:
        return (ENGINE,)


class FakeDevices:
    async def refresh(self) -> None:
        return None


MACHINE = {
    "proc/meminfo": "MemTotal: 16777216 kB\nMemAvailable: 1677721 kB\nSwapTotal: 1048576 kB\nSwapFree: 0 kB\n",
    "proc/vmstat": "pswpin 5\npswpout 5\n",
    "proc/pressure/memory": "some avg10=50.00 avg60=1.00 avg300=1.00 total=1\n"
    "full avg10=0.00 avg60=0.00 avg300=0.00 total=1\n",
    "proc/cpuinfo": "processor : 0\ncore id : 0\nflags : avx2 amx_tile\n\n"
    "processor : 1\ncore id : 1\nflags : avx2 amx_tile\n",
    "proc/self/cgroup": "0::/a\n",
    "sys/fs/cgroup/a/cpu.max": "100000 100000\n",
    "sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
    "sys/bus/pci/devices/0000:01:00.0/class": "0x030000\n",
    "sys/class/thermal/thermal_zone0/type": "cpu\n",
    "sys/class/thermal/thermal_zone0/temp": "94000\n",
    "sys/class/thermal/thermal_zone0/trip_point_0_type": "passive\n",
    "sys/class/thermal/thermal_zone0/trip_point_0_temp": "95000\n",
}


@pytest.fixture
def patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Patient:
    monkeypatch.setattr(checks, "WINDOW_S", 0.01)
    root = tmp_path / "root"
    for name, text in MACHINE.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    model = InstalledModel("m", "file", (InstalledFile(tmp_path / "gone.gguf", 5),))
    remembered = {"safe-settings/2/machine/build/Q4_1": "no-amx", "safe-settings/2/other/build/Q4_1": "native"}

    def hardware() -> Hardware:
        return read_hardware(root)

    return Patient(
        Settings(data_dir=tmp_path, threads=2).model_dump(),
        "machine",
        "build",
        FakeStore(tmp_path / "lilliput.db", (model,), remembered),
        FakeHub(tmp_path / "hf"),
        FakePool(),
        FakeDevices(),
        hardware,
        root,
    )


def verdicts(report: Report) -> dict[str, str]:
    return {one.check: one.verdict for one in report.checks}


async def test_a_machine_is_read_from_its_root(patient: Patient) -> None:
    report = await make_doctor(patient).examine()
    found = {one.check: one for one in report.checks}
    assert verdicts(report) | {"disk-space": "", "build": "", "disk-speed": ""} == {
        "accelerator": "problem",
        "memory": "warning",
        "pressure": "problem",
        "swap": "ok",
        "container": "warning",
        "threads": "warning",
        "amx": "warning",
        "heat": "warning",
        "disk-speed": "",
        "disk-space": "",
        "files": "problem",
        "build": "",
        "settings": "ok",
        "hub": "ok",
        "token": "ok",
        "clock": "ok",
    }
    assert found["swap"].evidence["busy"] is True
    assert found["memory"].evidence["engines_bytes"] == 3 * GIB
    assert found["threads"].evidence["engines"] == ["m: 3"]
    assert found["amx"].evidence["rungs"] == ["no-amx"]
    assert found["container"].evidence["cpu_quota_cores"] == 1.0
    assert found["disk-speed"].verdict == "unknown"


async def test_a_store_that_fails_leaves_the_other_checks_alone(patient: Patient) -> None:
    before = verdicts(await make_doctor(patient).examine())
    assert isinstance(patient.store, FakeStore)
    patient.store.fails = True
    report = await make_doctor(patient).examine()
    lost = {"container", "disk-speed", "files", "clock"}
    assert {name for name, verdict in verdicts(report).items() if verdict == "unknown"} == lost
    assert {name: one for name, one in verdicts(report).items() if name not in lost} == {
        name: one for name, one in before.items() if name not in lost
    }
    assert "StorageError: the disk is gone" in next(one.summary for one in report.checks if one.check == "files")


async def test_the_hub_is_asked_once_for_all_its_checks_and_again_next_time(patient: Patient) -> None:
    doctor = make_doctor(patient)
    assert isinstance(patient.hub, FakeHub)
    await doctor.examine()
    assert patient.hub.asked == 1
    await doctor.examine()
    assert patient.hub.asked == 2
