from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lilliput.errors import InvalidRequest
from lilliput.hardware import Machines, load_machine, read_hardware, read_tables
from lilliput.shipped import shipped
from lilliput.units import GIB, MIB

PC = """
[my-pc]
title = "Mine"
system = "windows"
memory = "32 GiB"
os_share = "5 GiB"
cores = 8
threads = 16
bandwidth = "51.2 GB/s"
[[my-pc.accelerators]]
title = "Example GPU"
backend = "CUDA"
memory = "24 GiB"
reserved = "1 GiB"
bandwidth = "936 GB/s"
f16_tflops = 71
"""


def shipped_machines() -> Machines:
    return Machines.from_mapping(read_tables(shipped("machines.toml")))


def write(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def one(**keys: Any) -> Machines:
    return Machines.from_mapping({"box": {"memory": "16 GiB", "cores": 4} | keys}, "file.toml")


def test_the_shipped_file_has_the_machines_that_people_ask_about() -> None:
    names = {machine.name for machine in shipped_machines()}
    assert names >= {
        *("macbook-m1-8gb", "macbook-m2-16gb", "macbook-m3-32gb", "mac-studio-m2-ultra-192gb"),
        *("pc-32gb", "pc-32gb-24gb-vram", "pc-64gb-workstation", "pc-16gb-8gb-vram", "laptop-16gb"),
        *("vps-8gb", "h100-80gb", "2x24gb", "raspberry-pi-5-8gb"),
    }


@pytest.mark.parametrize("name", [machine.name for machine in shipped_machines()])
def test_every_shipped_machine_is_sound_and_every_bandwidth_has_a_source(name: str) -> None:
    machine = shipped_machines().get(name)
    assert 0 < machine.available_bytes < machine.total_bytes
    assert machine.bandwidth_bytes_s is not None
    assert 1e10 < machine.bandwidth_bytes_s < 1e12
    assert any(note.startswith("memory bandwidth: ") for note in machine.notes)
    for accelerator in machine.accelerators:
        assert accelerator.free_bytes is not None
        assert 0 < accelerator.free_bytes <= accelerator.total_bytes
        assert accelerator.bandwidth_bytes_s is not None
        sourced = any(note.startswith(f"bandwidth of {accelerator.name}: ") for note in machine.notes)
        assert machine.unified or sourced


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("macbook-m2-16gb", "macbook-m2-16gb"),
        ("MacBook M2 16 GB", "macbook-m2-16gb"),
        ("M3 32 GB", "macbook-m3-32gb"),
        ("PC 32 GB + 24 GB VRAM", "pc-32gb-24gb-vram"),
        ("64 GB workstation", "pc-64gb-workstation"),
        ("8_GB.VPS", "vps-8gb"),
        ("H100 80 GB", "h100-80gb"),
    ],
)
def test_names_are_found_however_they_are_spelled(spelling: str, name: str) -> None:
    assert shipped_machines().get(spelling).name == name


def test_an_unknown_name_is_answered_with_near_ones() -> None:
    with pytest.raises(InvalidRequest, match="no machine is called 'macbok m2'") as caught:
        shipped_machines().get("macbok m2")
    assert caught.value.param == "machine"
    assert "did you mean" in (caught.value.hint or "")
    assert "macbook-m2-16gb" in (caught.value.hint or "").split("?")[0]


@pytest.mark.parametrize("name", ["", "---", "zzzzzzzz"])
def test_a_name_like_no_other_is_answered_with_all(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        shipped_machines().get(name)
    assert (caught.value.hint or "").startswith("known: macbook-m1-8gb, ")


def test_a_described_machine_looks_like_a_real_one_in_json() -> None:
    described = shipped_machines().get("pc-32gb-24gb-vram").to_hardware()
    value, real = (json.loads(json.dumps(hardware.to_json())) for hardware in (described, read_hardware()))
    assert value.keys() == real.keys()
    assert value["cpu"].keys() == real["cpu"].keys()
    assert value["memory"].keys() == real["memory"].keys()
    assert (value["described"], value["system"], value["bandwidth_bytes_s"]) == ("pc-32gb-24gb-vram", "Windows", 51.2e9)
    assert value["memory"]["available_bytes"] == 28 * GIB
    assert described.cpu.compute_threads == 8


def test_a_mac_shares_its_memory_with_its_gpu_up_to_the_working_set() -> None:
    mac = shipped_machines().get("macbook-m2-16gb").to_hardware()
    (gpu,) = mac.accelerators
    assert mac.unified
    assert (gpu.name, gpu.total_bytes, gpu.free_bytes) == ("MTL0", 16 * GIB * 2 // 3, 16 * GIB * 2 // 3)
    assert mac.memory.gpu_working_set_bytes == gpu.total_bytes
    assert gpu.bandwidth_bytes_s == mac.bandwidth_bytes_s == 100e9
    assert (mac.cpu.performance_cores, mac.cpu.compute_threads) == (4, 4)


def test_a_gpu_cannot_have_more_of_shared_memory_than_is_available() -> None:
    small = shipped_machines().get("macbook-m1-8gb").to_hardware()
    assert small.accelerators[0].free_bytes == small.memory.available_bytes == 5 * GIB


def test_a_users_file_describes_one_machine(tmp_path: Path) -> None:
    machine = load_machine(write(tmp_path, PC))
    assert (machine.name, machine.title, machine.system) == ("my-pc", "Mine", "Windows")
    assert (machine.total_bytes, machine.available_bytes, machine.bandwidth_bytes_s) == (32 * GIB, 27 * GIB, 51.2e9)
    (gpu,) = machine.accelerators
    assert (gpu.name, gpu.description, gpu.kind) == ("CUDA0", "Example GPU", "gpu")
    assert (gpu.total_bytes, gpu.free_bytes) == (24 * GIB, 23 * GIB)
    assert (gpu.bandwidth_bytes_s, gpu.flops) == (936e9, 71e12)
    assert machine.notes[0] == "available memory: 32.0 GiB less 5.0 GiB for the system and its programs, assumed"


def test_a_users_file_may_do_without_the_table_around_its_keys(tmp_path: Path) -> None:
    machine = load_machine(write(tmp_path, 'memory = "32 GB"\ncores = 4\n', "attic.toml"))
    assert (machine.name, machine.title, machine.total_bytes) == ("attic", "attic", 32 * 10**9)


@pytest.mark.parametrize(
    ("system", "gib", "left"), [("linux", 16, 14), ("macos", 16, 12), ("windows", 16, 12), ("windows", 4, 2)]
)
def test_the_share_of_the_system_has_a_default_and_is_stated(system: str, gib: int, left: int) -> None:
    machine = one(system=system, memory=f"{gib} GiB").get("box")
    assert machine.available_bytes == left * GIB
    assert f"{gib}.0 GiB less {gib - left}.0 GiB" in machine.notes[0]


def test_available_memory_may_be_given_itself() -> None:
    machine = one(available=9 * GIB).get("box")
    assert (machine.available_bytes, machine.notes) == (
        9 * GIB,
        ("available memory: 9.0 GiB, as the description says",),
    )


def test_accelerators_without_names_are_numbered() -> None:
    cards = [{"memory": "8 GiB"}, {"memory": "8 GiB", "backend": "ROCm"}]
    assert [card.name for card in one(accelerators=cards).get("box").accelerators] == ["GPU0", "ROCm1"]


def test_integrated_graphics_elsewhere_than_on_a_mac_may_have_all_the_memory() -> None:
    (gpu,) = one(unified=True, accelerators=[{"backend": "Vulkan"}], bandwidth=5e10).get("box").accelerators
    assert (gpu.kind, gpu.total_bytes, gpu.free_bytes, gpu.bandwidth_bytes_s) == ("igpu", 16 * GIB, 14 * GIB, 5e10)


CARD = {"memory": "8 GiB"}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"memory": True}, "memory must be a size, not True"),
        ({"memory": 1.5}, "memory must be a size, not 1.5"),
        ({"memory": "24 gigs"}, "memory cannot be read: '24 gigs' is not a size"),
        ({"memory": -1}, "memory cannot be -1"),
        ({"memory": 1 << 61}, "memory cannot be 2305843009213693952"),
        ({"memory": 0}, "memory cannot be 0"),
        ({"memory": None}, "memory is missing"),
        ({"cores": 0}, "cores must be a whole number from 1 to 65536, not 0"),
        ({"cores": "8"}, "cores must be a whole number from 1 to 65536, not '8'"),
        ({"cores": True}, "cores must be a whole number"),
        ({"threads": 2}, "threads cannot be fewer than the 4 cores"),
        ({"performance_cores": 2}, "performance_cores and efficiency_cores must add up to 4 cores"),
        ({"performance_cores": 0}, "performance_cores must be a whole number from 1 to 65536"),
        ({"system": "beos"}, "system is 'beos', but may be linux, macos, windows"),
        ({"system": ["linux"]}, "system is \\['linux'\\]"),
        ({"title": 3}, "title must be text"),
        ({"title": "a\nb"}, "title must be text on one line"),
        ({"unified": "yes"}, "unified must be true or false"),
        ({"bandwidth": "fast"}, "bandwidth cannot be read"),
        ({"bandwidth": 0}, "bandwidth must be a number above 0"),
        ({"bandwidth": float("nan")}, "bandwidth must be a number above 0"),
        ({"bandwidth": True}, "bandwidth must be a number above 0"),
        ({"aliases": "x"}, "aliases must be a list of texts"),
        ({"notes": [1]}, "notes must be a list of texts"),
        ({"available": "17 GiB"}, "available is more than the memory of 16.0 GiB"),
        ({"os_share": "17 GiB"}, "os_share is more than the memory"),
        ({"os_share": 1, "available": 1}, "available and os_share exclude each other"),
        ({"acelerators": []}, "acelerators is no known key"),
        ({"accelerators": {}}, "accelerators must be tables"),
        ({"accelerators": [3]}, "accelerators 1 is not a table"),
        ({"accelerators": [CARD, {}]}, "accelerators 2: memory is missing"),
        ({"accelerators": [CARD | {"vram": 1}]}, "accelerators 1: vram is no known key"),
        ({"accelerators": [CARD | {"reserved": "9 GiB"}]}, "accelerators 1: reserved is more than the memory"),
        ({"accelerators": [CARD | {"name": "A"}] * 2}, "accelerators 2: name 'A' is taken"),
        ({"accelerators": [CARD | {"kind": "cpu"}]}, "accelerators 1: kind is 'cpu'"),
        ({"accelerators": [CARD | {"f16_tflops": -1}]}, "accelerators 1: f16_tflops must be a number above 0"),
        (
            {"unified": True, "accelerators": [{"memory": "17 GiB"}]},
            "accelerators 1: memory is more than the 16.0 GiB that it shares",
        ),
    ],
)
def test_a_fault_names_the_file_the_machine_and_the_key(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"^file\.toml, \[box\](:|, ) ?{message}") as caught:
        one(**keys)
    assert caught.value.param == "machine"


def test_a_misspelled_key_is_answered_with_the_one_that_was_meant() -> None:
    with pytest.raises(InvalidRequest) as caught:
        one(bandwith="1 GB/s")
    assert caught.value.hint == "did you mean bandwidth?"


@pytest.mark.parametrize("name", ["", "--", "a\nb"])
def test_a_machine_needs_a_name_that_can_be_asked_for(name: str) -> None:
    with pytest.raises(InvalidRequest, match="must have a letter or digit"):
        Machines.from_mapping({name: {"memory": "1 GiB", "cores": 1}})


def test_two_machines_cannot_answer_to_one_name() -> None:
    box = {"memory": "1 GiB", "cores": 1}
    with pytest.raises(InvalidRequest, match="'BOX 1' means both box-1 and other"):
        Machines.from_mapping({"box-1": box, "other": box | {"aliases": ["BOX 1"]}})


def test_a_machine_that_is_no_table_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"machines\.toml, \[box\] is not a table"):
        Machines.from_mapping({"box": 3})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no table"),
        ('[a]\nmemory = "1 GiB"\ncores = 1\n[b]\nmemory = 1\n', "holds 2 tables: a, b"),
        ("[a\n", "is not a TOML file"),
        ("x = 1\n" * 2, "is not a TOML file"),
        ("#" * (1 << 20) + "\n", "is too large"),
    ],
)
def test_a_file_that_is_no_description_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"mine\.toml {message}"):
        load_machine(write(tmp_path, text))


def test_a_missing_or_binary_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"none\.toml cannot be read: No such file"):
        load_machine(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidRequest, match=r"bytes\.toml is not a TOML file"):
        load_machine(tmp_path / "bytes.toml")


def test_a_card_of_8188_mib_is_8188_mib() -> None:
    assert shipped_machines().get("rtx-4060").accelerators[0].total_bytes == 8188 * MIB
