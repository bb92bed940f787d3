"""Real daemons, and clients that talk to them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import httpx
import pytest
from openai import OpenAI
from tests.support.daemon import DaemonProcess
from tests.support.hub import HubServer, RepositoryConfig
from tests.support.pulling import QUICK
from tests.support.variants import Variants, make_variants

MODEL = "smollm2:135m"
ONE_THREAD = {"LILLIPUT_THREADS": "1"}
"""Two computing threads that share their cores with other work wait for each other; one only shares."""


def client_of(daemon: DaemonProcess, timeout_s: float = 120.0) -> httpx.Client:
    """An HTTP client of a daemon, which no proxy setting of this machine touches."""
    return httpx.Client(base_url=daemon.url, timeout=timeout_s, trust_env=False)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """One daemon for all tests that leave it as they found it: alive."""
    with DaemonProcess(tmp_path_factory.mktemp("served"), ONE_THREAD) as daemon:
        yield daemon


@pytest.fixture
def http(served: DaemonProcess) -> Iterator[httpx.Client]:
    with client_of(served) as client:
        yield client


@pytest.fixture
def openai(served: DaemonProcess) -> Iterator[OpenAI]:
    """The official client, unmodified and in its strict mode, without retries that would hide a fault."""
    with OpenAI(
        base_url=f"{served.url}/v1", api_key="x", max_retries=0, timeout=120, _strict_response_validation=True
    ) as client:
        yield client


@pytest.fixture(scope="session")
def variants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Variants]:
    """Variants made from the real model, once for all tests."""
    directory = tmp_path_factory.mktemp("variants")
    yield make_variants(directory)
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def running_hub() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server


@pytest.fixture
def hub(running_hub: HubServer) -> HubServer:
    """The Hub, with an empty log and no faults."""
    running_hub.reset()
    return running_hub


@pytest.fixture(scope="session")
def pulling(tmp_path_factory: pytest.TempPathFactory, running_hub: HubServer) -> Iterator[DaemonProcess]:
    """One daemon for all tests that pull and need no settings or fate of their own."""
    directory = tmp_path_factory.mktemp("pulling")
    with DaemonProcess(directory, running_hub.environment(directory / "hf") | QUICK) as daemon:
        yield daemon
    shutil.rmtree(directory / "hf", ignore_errors=True)


_numbers = count(1)


@pytest.fixture
def offer(hub: HubServer, variants: Variants) -> Callable[..., str]:
    """Serve quantizations (or ``files``) as a repository that no other test knows; its name."""

    def make(*quantizations: str, files: dict[str, str] | None = None, **fields: Any) -> str:
        name = f"tiny/SmolLM2-{next(_numbers)}-GGUF"
        served = files if files is not None else variants.served(*quantizations)
        hub.add(name, RepositoryConfig(served, **fields))
        return name

    return make
