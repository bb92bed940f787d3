"""What the doctor thinks of disks, files, the Hub, the clock, settings and builds."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lilliput.catalogue import InstalledFile, InstalledModel
from lilliput.hardware import DiskSpeed
from lilliput.hub import HubAnswer
from lilliput.services.doctor.configuration import judge_build, judge_settings
from lilliput.services.doctor.network import judge_clock, judge_hub, judge_token
from lilliput.services.doctor.readings import measure_largest, newest, read_files, read_place
from lilliput.services.doctor.storage import FileState, Place, judge_disk_speed, judge_files, judge_space
from lilliput.settings import Settings
from lilliput.units import GIB, MIB

FILE = FileState("m:8b", "hub", "/models/m.gguf", 100, 100, modified_at=1000.0, installed_at=1000.0)
HUB = HubAnswer("https://hub.example", False, 0.2, status=401, skew_s=0.4)


@pytest.mark.parametrize(
    ("free", "writable", "verdict", "said"),
    [
        (50 * GIB, True, "ok", "50.0 GiB (25%) are free at /data"),
        (9 * GIB, True, "warning", "9.0 GiB"),
        (900 * MIB, True, "problem", "900.0 MiB"),
        (50 * GIB, False, "problem", "/data (data) cannot be written"),
    ],
)
def test_room_on_disks(free: int, writable: bool, verdict: str, said: str) -> None:
    places = (Place("data", "/data", free, 200 * GIB, writable), Place("models", "/hf", 90 * GIB, 100 * GIB, True))
    found = judge_space(places)
    assert found.verdict == verdict
    assert said in found.summary
    assert found.evidence["models_free_bytes"] == 90 * GIB


@pytest.mark.parametrize(
    ("speed", "path", "verdict"),
    [
        (DiskSpeed(64 * MIB, 0.05, "direct"), "/m", "ok"),
        (DiskSpeed(64 * MIB, 0.5, "direct"), "/m", "warning"),
        (DiskSpeed(4 * MIB, 0.5, "dropped"), "/m", "problem"),
        (None, "/m", "unknown"),
        (None, None, "unknown"),
    ],
)
def test_speed_of_the_disk(speed: DiskSpeed | None, path: str | None, verdict: str) -> None:
    assert judge_disk_speed(speed, path, 5 * GIB).verdict == verdict


def test_the_time_to_read_the_largest_model_is_told() -> None:
    found = judge_disk_speed(DiskSpeed(10**8, 1.0, "direct"), "/m", 6 * 10**9)
    assert found.summary == "reads 100 MB/s: 1 min 00 s for the largest installed model"


@pytest.mark.parametrize(
    ("file", "verdict", "said", "remedy"),
    [
        (FILE, "ok", "1 file of 1 model there, in full size", None),
        (replace(FILE, found_bytes=None), "problem", "/models/m.gguf of m:8b is gone", "`lilliput pull m:8b`"),
        (replace(FILE, found_bytes=None, source="embedded"), "problem", "is gone", "`make install`"),
        (replace(FILE, found_bytes=None, source="file"), "problem", "is gone", "put it back"),
        (replace(FILE, found_bytes=99), "problem", "has another size", "`lilliput pull m:8b`"),
        (replace(FILE, readable=False), "problem", "cannot be read", "the right to read /models/m.gguf"),
        (replace(FILE, modified_at=2000.0), "warning", "was written after it was installed", "`lilliput verify`"),
        (replace(FILE, modified_at=2000.0, source="embedded"), "ok", "there, in full size", None),
    ],
)
def test_files_of_models(file: FileState, verdict: str, said: str, remedy: str | None) -> None:
    found = judge_files([file])
    assert found.verdict == verdict
    assert said in found.summary
    assert (found.remedy is None) if remedy is None else (remedy in (found.remedy or ""))


def test_the_worst_of_several_files_is_named_with_how_many_more() -> None:
    gone = replace(FILE, path="/models/a.gguf", found_bytes=None)
    found = judge_files([FILE, replace(FILE, found_bytes=3), gone, replace(gone, path="/models/b.gguf")])
    assert found.summary == "/models/a.gguf of m:8b is gone, and 1 more"
    assert found.evidence["missing"] == ["/models/a.gguf", "/models/b.gguf"]
    assert judge_files([]).verdict == "ok"


def test_files_and_places_are_read(tmp_path: Path) -> None:
    here, gone = tmp_path / "here.gguf", tmp_path / "gone.gguf"
    here.write_bytes(os.urandom(9 * MIB))
    os.utime(here, (7.0, 7.0))
    model = InstalledModel("m", "file", (InstalledFile(here, 5), InstalledFile(gone, 6)), installed_at=9.0)
    state, missing = read_files([model])
    assert state == FileState("m", "file", str(here), 5, 9 * MIB, True, 7.0, 9.0)
    assert (missing.found_bytes, missing.size_bytes) == (None, 6)
    assert newest([gone]) is None
    assert newest([here, gone]) == (str(here), 7.0)
    speed, path = measure_largest([model])
    assert path == str(here)
    assert speed is not None
    assert measure_largest([replace(model, files=(InstalledFile(gone, 6),))]) == (None, None)
    place = read_place("models", tmp_path / "not" / "there")
    assert (place.path, place.writable) == (str(tmp_path / "not" / "there"), True)
    assert 0 < place.free_bytes <= place.total_bytes


@pytest.mark.parametrize(
    ("answer", "reached", "token"),
    [
        (HUB, "ok", "ok"),
        (replace(HUB, has_token=True, status=200), "ok", "ok"),
        (replace(HUB, has_token=True), "ok", "problem"),
        (replace(HUB, has_token=True, status=429), "ok", "unknown"),
        (replace(HUB, has_token=True, status=502), "warning", "unknown"),
        (replace(HUB, has_token=True, status=None, problem="no route"), "warning", "unknown"),
        (replace(HUB, status=None, problem="offline", offline=True), "ok", "ok"),
    ],
)
def test_the_hub_and_its_token(answer: HubAnswer, reached: str, token: str) -> None:
    assert (judge_hub(answer).verdict, judge_token(answer).verdict) == (reached, token)


@pytest.mark.parametrize(
    ("skew_s", "newest_s", "verdict", "said"),
    [
        (0.4, 900.0, "ok", "agrees with the Hub's within 1 s"),
        (-90.0, 900.0, "warning", "this clock is 1 min 30 s behind the Hub's"),
        (3e6, 900.0, "problem", "ahead of the Hub's"),
        (0.4, 1100.0, "warning", "/m.gguf is from the future: 1 min 40 s ahead of this clock"),
        (None, 900.0, "ok", "no file is from the future"),
        (None, None, "unknown", "neither the Hub nor a file"),
    ],
)
def test_the_clock(skew_s: float | None, newest_s: float | None, verdict: str, said: str) -> None:
    found = judge_clock(replace(HUB, skew_s=skew_s), None if newest_s is None else ("/m.gguf", newest_s), 1000.0)
    assert found.verdict == verdict
    assert said in found.summary


def test_the_defaults_are_not_unusual() -> None:
    assert judge_settings(Settings().model_dump()).verdict == "ok"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"host": "0.0.0.0"}, "host"),
        ({"context_tokens": 512}, "context_tokens"),
        ({"slots": 100}, "slots"),
        ({"keep_alive_s": 0}, "keep_alive_s"),
        ({"memory_use_fraction": 1, "memory_reserve": 0}, "memory_use_fraction"),
        ({"gap_s": 3}, "gap_s"),
        ({"drain_s": 600}, "drain_s"),
        ({"queue_limit": 5000}, "queue_limit"),
    ],
)
def test_unusual_settings_are_named(changes: dict[str, Any], named: str) -> None:
    found = judge_settings(Settings(**changes).model_dump())
    assert (found.verdict, found.evidence["unusual"]) == ("warning", [named])
    assert found.remedy == f"set otherwise: {named} (docs/settings.md)"


BUILD: dict[str, Any] = {
    "versions": ("0.3.36",),
    "pinned": "0.3.36",
    "folders": ("/venv/llama_cpp",),
    "libraries": {"llama": ("0.5.0",)},
    "strangers": (),
    "backends": ("cpu", "cuda"),
}


@pytest.mark.parametrize(
    ("changes", "verdict", "said"),
    [
        ({}, "ok", "llama-cpp-python 0.3.36 for cpu, cuda, once"),
        ({"pinned": None}, "ok", "0.3.36"),
        ({"versions": ("0.3.9",)}, "problem", "0.3.9 is installed, 0.3.36 is needed"),
        ({"versions": ("0.3.36", "0.2.0")}, "warning", "more than once: 0.3.36, 0.2.0"),
        ({"folders": ("/venv/llama_cpp", "/usr/llama_cpp")}, "warning", "/usr/llama_cpp"),
        ({"libraries": {"llama": ("0.5.0", "0.4.1")}}, "warning", "several builds lie together: llama 0.4.1, 0.5.0"),
        ({"strangers": ("/opt/libllama.so",)}, "warning", "/opt/libllama.so"),
        ({"versions": ()}, "unknown", "no metadata"),
    ],
)
def test_builds_of_llama_cpp(changes: dict[str, Any], verdict: str, said: str) -> None:
    found = judge_build(**{**BUILD, **changes})
    assert found.verdict == verdict
    assert said in found.summary
