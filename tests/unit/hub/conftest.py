"""A real Hub-protocol server on loopback, shared by the tests of this room, and impatient clients of it."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.hub import HubServer, RepositoryConfig

from lilliput.hub import Hub, Patience

BIG_BYTES = 4 * 1024 * 1024 + 12_345
IMPATIENT = Patience(
    connect_timeout_s=2,
    metadata_timeout_s=1,
    stall_timeout_s=0.5,
    attempts=3,
    backoff_s=0.01,
    most_backoff_s=0.02,
    lock_poll_s=0.02,
)

MakeHub = Callable[..., Hub]


@dataclass(frozen=True, slots=True)
class Served:
    """Files the server offers in the repository ``org/model``."""

    big: bytes
    small: bytes
    directory: Path


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    directory = tmp_path_factory.mktemp("served")
    big = random.Random(1).randbytes(BIG_BYTES)
    (directory / "big.gguf").write_bytes(big)
    (directory / "README.md").write_bytes(b"a small file\n")
    return Served(big, b"a small file\n", directory)


@pytest.fixture(scope="session")
def running_server(served: Served) -> Iterator[HubServer]:
    big, small = str(served.directory / "big.gguf"), str(served.directory / "README.md")
    repositories = {
        "org/model": RepositoryConfig({"big.gguf": big, "README.md": small, "folder/copy.gguf": big}),
        "org/gated": RepositoryConfig({"big.gguf": big}, gated=True, license=None),
        "org/private": RepositoryConfig({"big.gguf": big}, private=True),
    }
    with HubServer(repositories) as server:
        yield server


@pytest.fixture
def server(running_server: HubServer) -> HubServer:
    running_server.reset()
    return running_server


@pytest.fixture(autouse=True)
def no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The tests see no token of the person who runs them."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))


@pytest.fixture
def cache_dir(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
async def make_hub(server: HubServer, cache_dir: Path) -> AsyncIterator[MakeHub]:
    """Make clients of the server that share one cache; they are closed at the end."""
    made: list[Hub] = []

    def make(token: str | None = None, *, patience: Patience = IMPATIENT, reserve_bytes: int = 0) -> Hub:
        made.append(Hub(server.url, token, cache_dir, patience=patience, reserve_bytes=reserve_bytes))
        return made[-1]

    yield make
    for hub in made:
        await hub.aclose()


@pytest.fixture
def hub(make_hub: MakeHub) -> Hub:
    return make_hub()


@pytest.fixture
def child_environment(server: HubServer, tmp_path: Path) -> dict[str, str]:
    """The environment of a child process that talks to the server and finds this project's packages."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return {**inherited, **server.environment(tmp_path / "home"), "PYTHONPATH": os.pathsep.join(sys.path)}
