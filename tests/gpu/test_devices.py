"""The software device as the device listing shows it."""

from __future__ import annotations

from typing import Any

from tests.gpu.conftest import DEVICE, listed


def test_the_device_is_listed_with_its_memory(device: dict[str, Any]) -> None:
    assert device["name"] == "Vulkan0"
    assert device["kind"] == "gpu"
    assert device["description"].startswith("llvmpipe")
    assert 1024**3 <= device["free_bytes"] <= device["total_bytes"]


def test_a_software_device_is_no_device_unless_it_is_named() -> None:
    assert listed(VK_LOADER_DRIVERS_SELECT=DEVICE["VK_LOADER_DRIVERS_SELECT"]) == []


def test_the_memory_is_the_same_each_time(device: dict[str, Any]) -> None:
    assert listed(**DEVICE) == [device]
