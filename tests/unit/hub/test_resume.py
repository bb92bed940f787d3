from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.hub import HubServer
from tests.unit.hub.conftest import BIG_BYTES, Served

from lilliput.hub import DownloadProgress, Hub
from lilliput.hub.cache import Cache
from lilliput.units import MIB

CHILD = """
import asyncio, sys
from pathlib import Path
from lilliput.hub import Hub

def show(progress):
    print(progress.phase, progress.completed_bytes, flush=True)

async def main():
    hub = Hub(sys.argv[1], cache_dir=Path(sys.argv[2]))
    repository = await hub.repository("org/model")
    await hub.download(repository, repository.file("big.gguf"), show)

asyncio.run(main())
"""


async def test_a_killed_process_loses_nothing_that_was_written(
    hub: Hub, server: HubServer, served: Served, cache_dir: Path, child_environment: dict[str, str]
) -> None:
    server.fault("GET /cdn/.*", bytes_per_s=2_000_000)
    command = [sys.executable, "-c", CHILD, server.url, str(cache_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=child_environment, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            phase, completed = line.split()
            if phase == "downloading" and int(completed) >= MIB:
                break
        child.kill()
    repository = await hub.repository("org/model")
    file = repository.file("big.gguf")
    kept = Cache(cache_dir).part(repository, file).stat().st_size
    assert MIB <= kept < BIG_BYTES
    assert hub.cached(repository, file) is None

    server.reset()
    heard: list[DownloadProgress] = []
    path = await hub.download(repository, file, heard.append)
    assert path.read_bytes() == served.big
    (request,) = server.log("cdn")
    assert request.range == f"bytes={kept}-"
    assert request.sent_bytes == BIG_BYTES - kept
    assert heard[-1].resumed_bytes == kept


def leave_part(cache_dir: Path, hub_files: tuple[object, object], content: bytes) -> None:
    part = Cache(cache_dir).part(*hub_files)  # type: ignore[arg-type]  # a repository and its file
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_bytes(content)


async def test_a_part_that_is_damaged_costs_one_clean_start(
    hub: Hub, server: HubServer, served: Served, cache_dir: Path
) -> None:
    repository = await hub.repository("org/model")
    file = repository.file("big.gguf")
    leave_part(cache_dir, (repository, file), b"\0" * 1000)
    heard: list[DownloadProgress] = []
    assert (await hub.download(repository, file, heard.append)).read_bytes() == served.big
    assert [request.range for request in server.log("cdn")] == ["bytes=1000-", None]
    assert heard[-1].resumed_bytes == 0


@pytest.mark.parametrize("extra_bytes", [0, 1])
async def test_a_part_that_is_complete_or_too_long_is_dealt_with(
    hub: Hub, server: HubServer, served: Served, cache_dir: Path, extra_bytes: int
) -> None:
    repository = await hub.repository("org/model")
    file = repository.file("big.gguf")
    leave_part(cache_dir, (repository, file), served.big + b"x" * extra_bytes)
    assert (await hub.download(repository, file)).read_bytes() == served.big
    assert len(server.log("cdn")) == extra_bytes
