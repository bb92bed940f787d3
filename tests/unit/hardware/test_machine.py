from __future__ import annotations

import json
import platform
import subprocess
from dataclasses import replace

import pytest

from lilliput.hardware import Accelerator, Cpu, fingerprint, read_hardware

CPU = Cpu("Example 9000", "x86_64", 4, 8, 8, ("avx2", "fma"))


def test_the_fingerprint_names_the_machine_and_not_its_momentary_state() -> None:
    assert fingerprint(CPU) == fingerprint(replace(CPU, usable_cores=2))
    assert len(fingerprint(CPU)) == 16
    changed = [replace(CPU, model="Other"), replace(CPU, simd=("avx2",)), replace(CPU, physical_cores=8)]
    assert len({fingerprint(cpu) for cpu in [CPU, *changed]}) == 4


def test_the_fingerprint_of_an_unknown_processor_exists() -> None:
    assert fingerprint(Cpu(None, "", None, None, 1, None))


def test_hardware_is_plain_json_with_its_accelerators() -> None:
    card = Accelerator("CUDA0", "Example GPU", "gpu", 24 * 1024**3)
    value = json.loads(json.dumps(read_hardware(accelerators=[card]).to_json()))
    (told,) = value["accelerators"]
    assert (told["name"], told["total_bytes"], told["free_bytes"]) == ("CUDA0", 24 * 1024**3, None)
    assert value["memory"]["available_bytes"] > 0
    assert value["cpu"]["usable_cores"] >= 1
    assert len(value["fingerprint"]) == 16


def test_a_real_machine_is_not_described_and_its_bandwidth_unknown_until_told() -> None:
    assert (read_hardware().described, read_hardware().bandwidth_bytes_s) == (None, None)
    assert read_hardware(bandwidth_bytes_s=2e10).to_json()["bandwidth_bytes_s"] == 2e10


@pytest.mark.parametrize(
    ("kinds", "unified"),
    [([], False), (["gpu"], False), (["igpu"], True), (["igpu", "accel"], True), (["igpu", "gpu"], False)],
)
def test_memory_is_unified_when_all_that_draws_is_part_of_the_processor(kinds: list[str], unified: bool) -> None:
    cards = [Accelerator(f"Vulkan{index}", "Example", kind, 1024) for index, kind in enumerate(kinds)]
    assert read_hardware(accelerators=cards).unified is unified


def test_reading_the_machine_starts_no_process_on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    if platform.system() != "Linux":
        pytest.skip("only /proc and /sys tell everything")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert read_hardware().memory.total_bytes > 0
