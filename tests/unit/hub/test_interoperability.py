from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.hub import HubServer
from tests.unit.hub.conftest import Served

from lilliput.hub import Hub

FETCH = """
import sys
from huggingface_hub import hf_hub_download, scan_cache_dir
from huggingface_hub.utils import disable_progress_bars
disable_progress_bars()
print(hf_hub_download("org/model", sys.argv[1], revision=sys.argv[2]))
found = scan_cache_dir()
print(len(found.repos), found.warnings)
"""


def fetch(environment: dict[str, str], path: str, revision: str) -> list[str]:
    """What huggingface_hub, in a process of its own, prints when it is asked for a file."""
    command = [sys.executable, "-c", FETCH, path, revision]
    environment = {**environment, "HF_HUB_DISABLE_XET": "1"}
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.splitlines()


async def test_huggingface_hub_uses_what_we_fetched_without_a_request(
    server: HubServer, tmp_path: Path, child_environment: dict[str, str]
) -> None:
    hub = Hub(server.url, cache_dir=tmp_path / "home" / "hub")
    repository = await hub.repository("org/model")
    path = await hub.download(repository, repository.file("folder/copy.gguf"))
    await hub.aclose()
    server.reset()
    assert fetch(child_environment, "folder/copy.gguf", repository.revision) == [str(path), "1 []"]
    assert server.log() == []
    assert fetch(child_environment, "folder/copy.gguf", "main") == [str(path), "1 []"]
    assert [entry.method for entry in server.log()] == ["HEAD"]


async def test_we_use_what_huggingface_hub_fetched(
    server: HubServer, served: Served, tmp_path: Path, child_environment: dict[str, str]
) -> None:
    fetched = fetch(child_environment, "big.gguf", "main")[0]
    hub = Hub(server.url, cache_dir=tmp_path / "home" / "hub")
    repository = await hub.repository("org/model")
    file = repository.file("big.gguf")
    assert str(hub.cached(repository, file)) == fetched
    server.reset()
    assert str(await hub.download(repository, file)) == fetched
    assert server.log() == []
    await hub.aclose()


def test_the_environment_of_huggingface_hub_is_honoured(child_environment: dict[str, str], tmp_path: Path) -> None:
    code = "from lilliput.hub import Hub; hub = Hub(); print(hub.endpoint); print(hub.cache_dir)"
    said = subprocess.run(
        [sys.executable, "-c", code], env=child_environment, check=True, capture_output=True, text=True
    )
    assert said.stdout.splitlines() == [child_environment["HF_ENDPOINT"], str(tmp_path / "home" / "hub")]


def test_the_room_is_imported_without_the_slow_library(child_environment: dict[str, str]) -> None:
    code = "import sys, lilliput.hub; print('huggingface_hub' in sys.modules, 'httpx2' in sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", code], env=child_environment, check=True, capture_output=True, text=True
    )
    assert said.stdout.split() == ["False", "False"]
