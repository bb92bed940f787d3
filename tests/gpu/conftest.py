"""Mesa's software device for every process that these tests start; they run in an environment built for Vulkan."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

DEVICE = {
    "GGML_VK_VISIBLE_DEVICES": "0",  # ggml leaves software devices out unless they are named
    "VK_LOADER_DRIVERS_SELECT": "*lvp*",  # and number 0 must be one also where there is a real GPU
}
os.environ.update(DEVICE)


def listed(**environ: str) -> list[dict[str, Any]]:
    """What ``python -m lilliput.llama.devices`` prints, with these variables and without the device's own."""
    clean = {name: value for name, value in os.environ.items() if name not in DEVICE}
    command = [sys.executable, "-m", "lilliput.llama.devices"]
    done = subprocess.run(command, env=clean | environ, capture_output=True, text=True, check=True)
    devices: list[dict[str, Any]] = json.loads(done.stdout)
    return devices


@pytest.fixture(scope="session", autouse=True)
def device() -> dict[str, Any]:
    """The software device; without it no test here can say anything."""
    devices = listed(**DEVICE)
    if [device["name"] for device in devices] != ["Vulkan0"]:
        pytest.exit(f"{sys.executable} sees {devices or 'no device'}: run these tests with make test-gpu", returncode=2)
    return devices[0]
