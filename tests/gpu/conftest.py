"""Mesa's software device for every process that these tests start; they run in an environment built for Vulkan."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from tests.support.daemon import DaemonProcess
from tests.support.hub import HubServer

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


Start = Callable[..., httpx.Client]


@pytest.fixture(scope="session")
def hub() -> Iterator[HubServer]:
    """A Hub on loopback."""
    with HubServer() as server:
        yield server


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory, hub: HubServer) -> Iterator[Start]:
    """Clients of daemons by their settings, one daemon each, started when first asked for; the device is known then."""
    known: dict[frozenset[tuple[str, str]], httpx.Client] = {}
    with ExitStack() as stack:

        def client(**settings: str) -> httpx.Client:
            key = frozenset(settings.items())
            if key not in known:
                known[key] = _client(stack, tmp_path_factory, hub, settings)
            return known[key]

        yield client


def _client(
    stack: ExitStack, directories: pytest.TempPathFactory, hub: HubServer, settings: Mapping[str, str]
) -> httpx.Client:
    directory = directories.mktemp("daemon")
    environment = hub.environment(directory / "hf") | dict(settings)
    daemon = stack.enter_context(DaemonProcess(directory, environment))
    client = stack.enter_context(httpx.Client(base_url=daemon.url, timeout=600, trust_env=False))
    assert client.get("/lilliput/hardware").json()["accelerators"], f"the device was not found:\n{daemon.log}"
    return client
