from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from pathlib import Path

import filelock
import pytest
from tests.support.hub import MEMBER_TOKEN, HubServer
from tests.unit.hub.conftest import BIG_BYTES, MakeHub, Served
from tests.unit.hub.listening import Listener, big_of, everything_below

from lilliput.errors import ChecksumMismatch, ShuttingDown
from lilliput.hub import DownloadProgress, Hub
from lilliput.hub.cache import Cache
from lilliput.hub.part import Part
from lilliput.units import MIB


async def test_a_large_file_arrives_complete_checked_and_under_its_name(
    hub: Hub, server: HubServer, served: Served, cache_dir: Path
) -> None:
    repository, file = await big_of(hub)
    listener = Listener()
    path = await hub.download(repository, file, listener)
    assert path.name == "big.gguf"
    assert path.read_bytes() == served.big
    assert hub.cached(repository, file) == path
    assert listener.phases == ["checking", "downloading", "verifying", "done"]
    assert listener.heard[-1] == DownloadProgress("done", BIG_BYTES, BIG_BYTES)
    assert [step.completed_bytes for step in listener.heard if step.phase == "downloading"][-1] == BIG_BYTES
    assert everything_below(cache_dir) == sorted(["big.gguf", "main", hashlib.sha256(served.big).hexdigest()])


async def test_a_small_file_is_checked_against_its_git_id(hub: Hub, server: HubServer, served: Served) -> None:
    repository = await hub.repository("org/model")
    path = await hub.download(repository, repository.file("README.md"))
    assert path.read_bytes() == served.small
    assert server.log("cdn") == []
    server.fault("GET .*/README.md", corrupt_at=3)
    await hub.remove(path)
    with pytest.raises(ChecksumMismatch):
        await hub.download(repository, repository.file("README.md"))


async def test_the_token_goes_to_the_hub_and_never_to_the_cdn(make_hub: MakeHub, server: HubServer) -> None:
    hub = make_hub(MEMBER_TOKEN)
    repository, file = await big_of(hub)
    await hub.download(repository, file)
    await hub.download(repository, repository.file("README.md"))
    assert {entry.token for entry in server.log("hub")} == {MEMBER_TOKEN}
    assert {entry.token for entry in server.log("cdn")} == {None}


async def test_a_redirect_of_the_hub_to_elsewhere_does_not_take_the_token_along(
    make_hub: MakeHub, server: HubServer
) -> None:
    hub = make_hub(MEMBER_TOKEN)
    repository = await hub.repository("org/model")
    server.fault("GET .*/README.md", status=302, headers={"Location": f"{server.cdn_url}/cdn/elsewhere"})
    await hub.download(repository, repository.file("README.md"))
    assert [(entry.path, entry.token) for entry in server.log("cdn")] == [("/cdn/elsewhere", None)]


async def test_bytes_are_fetched_by_http_even_where_xet_is_offered(hub: Hub, server: HubServer) -> None:
    repository, file = await big_of(hub)
    await hub.download(repository, file)
    assert [entry.method for entry in server.log()] == ["GET", "HEAD", "GET"]
    assert server.log("xet") == []
    assert server.log("agent") == []


async def test_a_file_that_is_there_is_not_fetched_again(hub: Hub, server: HubServer) -> None:
    repository, file = await big_of(hub)
    first = await hub.download(repository, file)
    server.reset()
    listener = Listener()
    assert await hub.download(repository, file, listener) == first
    copy = await hub.download(repository, repository.file("folder/copy.gguf"))
    assert copy.samefile(first)
    assert server.log() == []
    assert "verifying" in listener.phases


async def test_a_cancel_is_prompt_and_keeps_what_was_fetched(
    hub: Hub, server: HubServer, served: Served, cache_dir: Path
) -> None:
    server.fault("GET /cdn/.*", stall_after_bytes=3_000_000)
    repository, file = await big_of(hub)
    listener = Listener()
    download = asyncio.create_task(hub.download(repository, file, listener))
    await listener.until("downloading", 2 * MIB)
    began = time.monotonic()
    download.cancel()
    with pytest.raises(asyncio.CancelledError):
        await download
    assert time.monotonic() - began < 0.4
    kept = Cache(cache_dir).part(repository, file).stat().st_size
    assert 2 * MIB <= kept <= 3_000_000
    assert (await hub.download(repository, file, listener)).read_bytes() == served.big
    assert server.log("cdn")[1].range == f"bytes={kept}-"
    assert listener.heard[-1].resumed_bytes == kept


async def test_those_who_want_one_file_share_its_download(hub: Hub, server: HubServer, served: Served) -> None:
    server.fault("GET /cdn/.*", bytes_per_s=20_000_000)
    repository, file = await big_of(hub)
    listeners = Listener(), Listener()
    first = asyncio.create_task(hub.download(repository, file, listeners[0]))
    await listeners[0].until("downloading", 1)
    second = asyncio.create_task(hub.download(repository, repository.file("folder/copy.gguf"), listeners[1]))
    paths = await asyncio.gather(first, second)
    assert [path.name for path in paths] == ["big.gguf", "copy.gguf"]
    assert paths[1].read_bytes() == served.big
    assert len(server.log("cdn")) == 1
    assert listeners[1].phases == ["downloading", "verifying", "done"]


async def test_one_who_leaves_does_not_end_the_download_of_the_others(hub: Hub, server: HubServer) -> None:
    server.fault("GET /cdn/.*", bytes_per_s=20_000_000)
    repository, file = await big_of(hub)
    listener = Listener()
    leaving = asyncio.create_task(hub.download(repository, file, listener))
    staying = asyncio.create_task(hub.download(repository, file))
    await listener.until("downloading", 1)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert (await staying).exists()
    assert len(server.log("cdn")) == 1


async def test_closing_ends_downloads_with_an_error_that_says_so(hub: Hub, server: HubServer, cache_dir: Path) -> None:
    server.fault("GET /cdn/.*", stall_after_bytes=2_000_000)
    repository, file = await big_of(hub)
    listener = Listener()
    download = asyncio.create_task(hub.download(repository, file, listener))
    await listener.until("downloading", 1)
    await hub.aclose()
    with pytest.raises(ShuttingDown):
        await download
    assert Cache(cache_dir).part(repository, file).exists()


async def test_another_process_that_fetches_the_file_is_waited_for(hub: Hub, cache_dir: Path) -> None:
    repository, file = await big_of(hub)
    path = Cache(cache_dir).lock(repository, file)
    path.parent.mkdir(parents=True)
    listener = Listener()
    with filelock.FileLock(path):
        download = asyncio.create_task(hub.download(repository, file, listener))
        await listener.until("waiting")
    await download
    assert listener.heard[1].message == "another process is fetching the same file"
    assert listener.phases[-1] == "done"


async def test_writing_and_hashing_are_kept_out_of_the_event_loop(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[int] = set()
    append = Part.append

    def watched(part: Part, data: bytes) -> None:
        threads.add(threading.get_ident())
        append(part, data)

    monkeypatch.setattr(Part, "append", watched)
    await hub.download(*await big_of(hub))
    assert threads
    assert threading.get_ident() not in threads


async def test_a_removed_file_is_gone_with_its_content(hub: Hub, cache_dir: Path) -> None:
    repository, file = await big_of(hub)
    path = await hub.download(repository, file)
    assert await hub.remove(path) == BIG_BYTES
    assert everything_below(cache_dir) == []
