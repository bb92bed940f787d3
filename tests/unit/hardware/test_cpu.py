from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from lilliput.hardware import cpu_quota_cores, read_cpu

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
