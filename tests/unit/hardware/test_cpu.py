from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from lilliput.hardware import cpu_quota_cores, read_cpu
from lilliput.hardware.cores import last_level_cache_bytes
from lilliput.units import MIB

Plant = Callable[[dict[str, str]], Path]


def cpuinfo(sockets: int, cores: int, threads: int, flags: str = "fpu sse2 avx2 fma amx_tile avx512f lm") -> str:
    blocks = [
        f"processor\t: {index}\nmodel name\t: Example 9000\nphysical id\t: {socket}\n"
        f"core id\t\t: {core}\nflags\t\t: {flags}\n"
        for index, (socket, core) in enumerate(
            (socket, core) for _ in range(threads) for socket in range(sockets) for core in range(cores)
        )
    ]
    return "\n".join(blocks)


def test_cores_are_counted_per_socket_and_threads_apart(plant: Plant) -> None:
    cpu = read_cpu(plant({"proc/cpuinfo": cpuinfo(2, 4, 2), "proc/self/status": "Cpus_allowed_list:\t0-15\n"}))
    assert (cpu.physical_cores, cpu.logical_cores, cpu.usable_cores) == (8, 16, 16)
    assert cpu.model == "Example 9000"
    assert cpu.compute_threads == 8


def test_only_vector_instruction_sets_are_kept(plant: Plant) -> None:
    cpu = read_cpu(plant({"proc/cpuinfo": cpuinfo(1, 2, 1), "proc/self/status": ""}))
    assert cpu.simd == ("amx_tile", "avx2", "avx512f", "fma")


def test_arm_features_are_read(plant: Plant) -> None:
    text = "processor: 0\nFeatures: fp asimd asimddp sve i8mm smep\n\nprocessor: 1\nFeatures: fp\n\nHardware: Board\n"
    cpu = read_cpu(plant({"proc/cpuinfo": text, "proc/self/status": ""}))
    assert cpu.simd == ("asimd", "asimddp", "i8mm", "sve")
    assert (cpu.logical_cores, cpu.model) == (2, "Board")


def test_affinity_bounds_the_usable_cores(plant: Plant) -> None:
    root = plant({"proc/cpuinfo": cpuinfo(1, 8, 1), "proc/self/status": "Name:\tx\nCpus_allowed_list:\t0-1,4\n"})
    assert read_cpu(root).usable_cores == 3
    assert read_cpu(root).compute_threads == 3


@pytest.mark.parametrize(("quota", "usable"), [("250000 100000", 2), ("50000 100000", 1), ("max 100000", 8), ("x", 8)])
def test_a_v2_quota_bounds_the_usable_cores(plant: Plant, quota: str, usable: int) -> None:
    root = plant(
        {
            "proc/cpuinfo": cpuinfo(1, 8, 1),
            "proc/self/status": "Cpus_allowed_list:\t0-7\n",
            "proc/self/cgroup": "0::/job\n",
            "sys/fs/cgroup/job/cpu.max": quota,
        }
    )
    assert read_cpu(root).usable_cores == usable


@pytest.mark.parametrize(("quota", "cores"), [("150000", 1.5), ("-1", None), ("0", None)])
def test_a_v1_quota_is_read(plant: Plant, quota: str, cores: float | None) -> None:
    root = plant(
        {
            "proc/self/cgroup": "1:cpu:/job\n",
            "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": quota,
            "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000",
        }
    )
    assert cpu_quota_cores(root) == cores


def test_without_proc_the_unknown_stays_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: None)
    monkeypatch.setattr(psutil, "Process", SimpleNamespace)
    monkeypatch.setattr("platform.processor", lambda: "")
    cpu = read_cpu(tmp_path)
    assert (cpu.model, cpu.physical_cores, cpu.logical_cores, cpu.simd) == (None, None, None, None)
    assert cpu.usable_cores == 1
    assert cpu.compute_threads == 1


def test_without_proc_psutil_counts_and_tells_the_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 8 if logical else 4)
    monkeypatch.setattr(psutil, "Process", lambda: SimpleNamespace(cpu_affinity=lambda: [0, 1, 2, 3, 4, 5]))
    cpu = read_cpu(tmp_path)
    assert (cpu.physical_cores, cpu.logical_cores, cpu.usable_cores, cpu.compute_threads) == (4, 8, 6, 4)


def topology(cores: dict[int, str]) -> dict[str, str]:
    """Logical number -> core id, all of one socket."""
    files = {}
    for number, core in cores.items():
        files[f"sys/devices/system/cpu/cpu{number}/topology/core_id"] = f"{core}\n"
        files[f"sys/devices/system/cpu/cpu{number}/topology/physical_package_id"] = "0\n"
    return files


def test_fast_and_slow_cores_of_an_intel_hybrid_are_told_apart_and_only_the_fast_compute(plant: Plant) -> None:
    files = {
        "proc/cpuinfo": cpuinfo(1, 6, 1) + "\n" + cpuinfo(1, 2, 1).replace("processor\t: ", "processor\t: 1"),
        "proc/self/status": "Cpus_allowed_list:\t0-7\n",
        "sys/devices/cpu_core/cpus": "0-3\n",
        "sys/devices/cpu_atom/cpus": "4-7\n",
        **topology({0: "0", 1: "0", 2: "4", 3: "4", 4: "8", 5: "9", 6: "10", 7: "11"}),
    }
    cpu = read_cpu(plant(files))
    assert (cpu.performance_cores, cpu.efficiency_cores) == (2, 4)
    assert cpu.compute_threads == 2


@pytest.mark.parametrize(
    ("capacities", "kinds"),
    [
        ([397, 397, 397, 397, 1024, 1024, 1024, 1024], (4, 4)),  # RK3588
        ([250, 250, 250, 250, 740, 740, 740, 1024], (4, 4)),  # little, middle and one large core
        ([1024] * 8, (None, None)),
    ],
)
def test_the_capacities_of_arm_cores_tell_their_kinds(
    plant: Plant, capacities: list[int], kinds: tuple[int | None, int | None]
) -> None:
    files = {
        f"sys/devices/system/cpu/cpu{number}/cpu_capacity": f"{value}\n" for number, value in enumerate(capacities)
    }
    cpu = read_cpu(plant(files))
    assert (cpu.performance_cores, cpu.efficiency_cores) == kinds


def test_hybrid_files_that_make_no_sense_tell_nothing(plant: Plant) -> None:
    root = plant({"sys/devices/cpu_core/cpus": "0-x\n", "sys/devices/cpu_atom/cpus": "\n"})
    assert read_cpu(root).performance_cores is None


def test_macos_tells_the_kinds_of_core_and_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = {"hw.perflevel0.physicalcpu": 4, "hw.perflevel1.physicalcpu": 6}
    monkeypatch.setattr("lilliput.hardware.cores.sysctl_number", numbers.get)
    monkeypatch.setattr("lilliput.hardware.cpu.sysctl_text", {"machdep.cpu.brand_string": "Apple M4"}.get)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 10)
    monkeypatch.setattr(psutil, "Process", SimpleNamespace)
    cpu = read_cpu(tmp_path)
    assert (cpu.model, cpu.performance_cores, cpu.efficiency_cores, cpu.numa_nodes) == ("Apple M4", 4, 6, None)
    assert (cpu.usable_cores, cpu.compute_threads) == (10, 4)


@pytest.mark.parametrize(("online", "nodes"), [("0", 1), ("0-3", 4), ("0,2", 2), ("?", None)])
def test_memory_nodes_are_counted(plant: Plant, online: str, nodes: int | None) -> None:
    assert read_cpu(plant({"sys/devices/system/node/online": f"{online}\n"})).numa_nodes == nodes


def test_the_last_level_cache_is_summed_over_its_instances(plant: Plant) -> None:
    files: dict[str, str] = {}
    for number, shared in enumerate(["0-1", "0-1", "2-3", "2-3"]):
        for index, (level, size, users) in enumerate([(1, 32, str(number)), (2, 512, str(number)), (3, 32768, shared)]):
            directory = f"sys/devices/system/cpu/cpu{number}/cache/index{index}"
            files |= {f"{directory}/level": f"{level}\n", f"{directory}/size": f"{size}K\n"}
            files[f"{directory}/shared_cpu_list"] = f"{users}\n"
    assert last_level_cache_bytes(plant(files)) == 64 * MIB


def test_without_a_description_of_caches_their_size_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lilliput.hardware.cores.sysctl_number", lambda name: None)
    assert last_level_cache_bytes(tmp_path) is None
