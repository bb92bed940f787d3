from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from lilliput.hardware import memory_limits, read_memory
from lilliput.units import GIB, MIB

Plant = Callable[[dict[str, str]], Path]

MEMINFO = """MemTotal:       16777216 kB
MemFree:         2097152 kB
MemAvailable:    8388608 kB
Buffers:          524288 kB
Cached:          4194304 kB
SwapTotal:       1048576 kB
SwapFree:         524288 kB
HugePages_Total:       0
"""
V1_UNLIMITED = "9223372036854771712\n"


def test_a_machine_without_limits_has_what_the_kernel_calls_available(plant: Plant) -> None:
    memory = read_memory(plant({"proc/meminfo": MEMINFO}))
    assert (memory.total_bytes, memory.available_bytes, memory.host_total_bytes) == (16 * GIB, 8 * GIB, 16 * GIB)
    assert (memory.swap_total_bytes, memory.swap_free_bytes) == (GIB, 512 * MIB)
    assert memory.limited_by is None


def test_a_kernel_without_memavailable_is_estimated_from_free_and_cache(plant: Plant) -> None:
    text = "\n".join(line for line in MEMINFO.splitlines() if not line.startswith("MemAvailable"))
    assert read_memory(plant({"proc/meminfo": text})).available_bytes == int(6.5 * GIB)


def test_without_proc_psutil_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=4 * GIB, available=3 * GIB))
    monkeypatch.setattr(psutil, "swap_memory", lambda: SimpleNamespace(total=GIB, free=GIB))
    memory = read_memory(tmp_path)
    assert (memory.total_bytes, memory.available_bytes, memory.swap_free_bytes) == (4 * GIB, 3 * GIB, GIB)


@pytest.mark.parametrize("text", ["", "no numbers here\n", "MemFree: 12 kB\n"])
def test_an_unreadable_meminfo_falls_back_to_psutil(plant: Plant, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=4 * GIB, available=3 * GIB))
    monkeypatch.setattr(psutil, "swap_memory", lambda: SimpleNamespace(total=0, free=0))
    assert read_memory(plant({"proc/meminfo": text})).total_bytes == 4 * GIB


def test_a_v2_limit_counts_usage_without_reclaimable_page_cache(plant: Plant) -> None:
    group = "sys/fs/cgroup/docker/abc"
    root = plant(
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "0::/docker/abc\n",
            f"{group}/memory.max": f"{4 * GIB}\n",
            f"{group}/memory.high": "max\n",
            f"{group}/memory.current": f"{3 * GIB}\n",
            f"{group}/memory.stat": f"inactive_file {GIB}\nactive_file {512 * MIB}\nslab_reclaimable {256 * MIB}\n",
        }
    )
    memory = read_memory(root)
    assert memory.total_bytes == 4 * GIB
    assert memory.available_bytes == GIB + GIB + 512 * MIB + 256 * MIB
    assert memory.host_total_bytes == 16 * GIB
    assert memory.limited_by == "/sys/fs/cgroup/docker/abc"


def test_the_tightest_level_of_nested_v2_groups_counts(plant: Plant) -> None:
    root = plant(
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "0::/a/b\n",
            "sys/fs/cgroup/a/memory.max": f"{2 * GIB}\n",
            "sys/fs/cgroup/a/memory.current": f"{GIB}\n",
            "sys/fs/cgroup/a/b/memory.max": f"{3 * GIB}\n",
            "sys/fs/cgroup/a/b/memory.current": "0\n",
        }
    )
    memory = read_memory(root)
    assert (memory.total_bytes, memory.available_bytes, memory.limited_by) == (2 * GIB, GIB, "/sys/fs/cgroup/a")


def test_a_v2_throttle_below_the_maximum_is_the_limit(plant: Plant) -> None:
    root = plant({"sys/fs/cgroup/memory.max": f"{2 * GIB}\n", "sys/fs/cgroup/memory.high": f"{GIB}\n"})
    assert [limit.limit_bytes for limit in memory_limits(root)] == [GIB]


def test_max_and_missing_files_are_no_limit(plant: Plant) -> None:
    root = plant(
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "0::/a\n",
            "sys/fs/cgroup/a/memory.max": "max\n",
            "sys/fs/cgroup/a/memory.current": "123\n",
            "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
        }
    )
    assert memory_limits(root) == ()
    assert read_memory(root).available_bytes == 8 * GIB


def test_a_v1_limit_uses_the_hierarchical_cache_counters(plant: Plant) -> None:
    group = "sys/fs/cgroup/memory/slice/job"
    root = plant(
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "9:name=systemd:/\n4:memory:/slice/job\n0::/\n",
            f"{group}/memory.limit_in_bytes": f"{2 * GIB}\n",
            f"{group}/memory.usage_in_bytes": f"{GIB}\n",
            f"{group}/memory.stat": f"inactive_file 1\ntotal_inactive_file {512 * MIB}\ntotal_active_file {256 * MIB}",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": V1_UNLIMITED,
            "sys/fs/cgroup/unified/cgroup.procs": "",
        }
    )
    memory = read_memory(root)
    assert memory.available_bytes == 2 * GIB - 256 * MIB
    assert memory.limited_by == "/sys/fs/cgroup/memory/slice/job"


def test_the_unlimited_number_of_v1_is_no_limit(plant: Plant) -> None:
    root = plant(
        {
            "proc/self/cgroup": "4:memory:/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": V1_UNLIMITED,
            "sys/fs/cgroup/memory/memory.stat": f"hierarchical_memory_limit {V1_UNLIMITED}",
        }
    )
    assert memory_limits(root) == ()


def test_a_v1_limit_of_a_parent_outside_the_mount_is_seen_in_the_statistics(plant: Plant) -> None:
    root = plant(
        {
            "proc/self/cgroup": "4:memory:/docker/0123\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": V1_UNLIMITED,
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "0\n",
            "sys/fs/cgroup/memory/memory.stat": f"hierarchical_memory_limit {GIB}\n",
        }
    )
    assert [(limit.path, limit.free_bytes) for limit in memory_limits(root)] == [("/sys/fs/cgroup/memory", GIB)]


def test_a_host_path_that_the_container_cannot_see_falls_back_to_the_mount(plant: Plant) -> None:
    root = plant({"proc/self/cgroup": "0::/../../kubepods/pod1\n", "sys/fs/cgroup/memory.max": f"{GIB}\n"})
    assert [limit.path for limit in memory_limits(root)] == ["/sys/fs/cgroup"]


def test_usage_above_the_limit_leaves_nothing_rather_than_a_debt(plant: Plant) -> None:
    root = plant({"sys/fs/cgroup/memory.max": f"{GIB}\n", "sys/fs/cgroup/memory.current": f"{2 * GIB}\n"})
    assert memory_limits(root)[0].free_bytes == 0


def test_a_limit_above_the_machine_changes_nothing(plant: Plant) -> None:
    root = plant({"proc/meminfo": MEMINFO, "sys/fs/cgroup/memory.max": f"{64 * GIB}\n"})
    memory = read_memory(root)
    assert (memory.total_bytes, memory.available_bytes, memory.limited_by) == (16 * GIB, 8 * GIB, None)


def test_the_tightest_level_of_nested_v1_groups_counts(plant: Plant) -> None:
    memory = "sys/fs/cgroup/memory"
    root = plant(
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "4:memory:/slice/job\n",
            f"{memory}/slice/memory.limit_in_bytes": f"{3 * GIB}\n",
            f"{memory}/slice/memory.usage_in_bytes": f"{2 * GIB + 512 * MIB}\n",
            f"{memory}/slice/memory.stat": f"inactive_file 0\ntotal_inactive_file {256 * MIB}\n",
            f"{memory}/slice/job/memory.limit_in_bytes": f"{4 * GIB}\n",
            f"{memory}/slice/job/memory.usage_in_bytes": "0\n",
        }
    )
    found = read_memory(root)
    assert (found.total_bytes, found.available_bytes) == (3 * GIB, 768 * MIB)
    assert found.limited_by == "/sys/fs/cgroup/memory/slice"


def test_memory_shared_with_others_is_not_taken_for_reclaimable(plant: Plant) -> None:
    root = plant(
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": f"{2 * GIB}\n",
            "sys/fs/cgroup/memory.current": f"{GIB}\n",
            "sys/fs/cgroup/memory.stat": f"file {GIB}\nshmem {GIB}\ninactive_file 0\ninactive_anon {GIB}\n",
        }
    )
    assert memory_limits(root)[0].free_bytes == GIB


@pytest.mark.parametrize(
    ("limit_mib", "gib", "working_set"),
    [
        (None, 16, None),
        (0, 8, 8 * GIB * 2 // 3),
        (0, 32, 32 * GIB * 2 // 3),
        (0, 36, 27 * GIB),
        (0, 192, 144 * GIB),
        (12000, 16, 12000 * MIB),
        (10**6, 16, 16 * GIB),
    ],
)
def test_the_working_set_of_an_apple_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit_mib: int | None, gib: int, working_set: int | None
) -> None:
    monkeypatch.setattr("lilliput.hardware.memory.sysctl_number", {"iogpu.wired_limit_mb": limit_mib}.get)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=gib * GIB, available=GIB))
    monkeypatch.setattr(psutil, "swap_memory", lambda: SimpleNamespace(total=0, free=0))
    assert read_memory(tmp_path).gpu_working_set_bytes == working_set


def test_this_machine_can_be_read() -> None:
    memory = read_memory()
    assert 0 < memory.available_bytes <= memory.total_bytes <= memory.host_total_bytes
