from __future__ import annotations

import asyncio
import errno
import hashlib
import shutil
import threading
import time
from io import FileIO
from pathlib import Path
from typing import Any

import filelock
import pytest
from tests.support.hub import MEMBER_TOKEN, HubServer
from tests.unit.hub.conftest import BIG_BYTES, MakeHub, Served

from lilliput.errors import ChecksumMismatch, DiskFull, HubError, ShuttingDown, StorageError
from lilliput.hub import DownloadProgress, Hub, RemoteFile, Repository
from lilliput.hub.cache import Cache
from lilliput.hub.part import Part
from lilliput.units import MIB


def everything_below(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.rglob("*") if path.is_file() and ".locks" not in path.parts)


class Listener:
    """Keeps progress, and lets a test wait for it."""

    def __init__(self) -> None:
        self.heard: list[DownloadProgress] = []
        self._changed = asyncio.Event()

    def __call__(self, progress: DownloadProgress) -> None:
        self.heard.append(progress)
        self._changed.set()

    async def until(self, phase: str, completed_bytes: int = 0) -> None:
        while not any(step.phase == phase and step.completed_bytes >= completed_bytes for step in self.heard):
            self._changed.clear()
            await self._changed.wait()

    @property
    def phases(self) -> list[str]:
        """Phases in order, repetitions left out."""
        phases = [step.phase for step in self.heard]
        return [phase for index, phase in enumerate(phases) if index == 0 or phases[index - 1] != phase]


async def big_of(hub: Hub) -> tuple[Repository, RemoteFile]:
    repository = await hub.repository("org/model")
    return repository, repository.file("big.gguf")


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


async def test_content_of_another_tool_that_is_damaged_is_replaced(hub: Hub, served: Served, cache_dir: Path) -> None:
    repository, file = await big_of(hub)
    blob = Cache(cache_dir).blob(repository, file)
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"\0" * BIG_BYTES)
    assert (await hub.download(repository, file)).read_bytes() == served.big


async def test_a_flipped_byte_is_rejected_and_nothing_stays(hub: Hub, server: HubServer, cache_dir: Path) -> None:
    server.fault("GET /cdn/.*", corrupt_at=1_000_000)
    repository, file = await big_of(hub)
    with pytest.raises(ChecksumMismatch, match=r"org/model/big\.gguf"):
        await hub.download(repository, file)
    assert everything_below(cache_dir) == []
    assert hub.cached(repository, file) is None
    assert (await hub.download(repository, file)).exists()


async def test_a_cut_connection_is_resumed_where_it_ended(hub: Hub, server: HubServer, served: Served) -> None:
    server.fault("GET /cdn/.*", cut_after_bytes=2_000_000)
    repository, file = await big_of(hub)
    listener = Listener()
    path = await hub.download(repository, file, listener)
    assert path.read_bytes() == served.big
    first, second = server.log("cdn")
    assert first.range is None
    assert second.range == "bytes=2000000-"
    assert second.sent_bytes == BIG_BYTES - 2_000_000
    assert "waiting" in listener.phases


async def test_many_cuts_are_survived_while_there_is_progress(hub: Hub, server: HubServer, served: Served) -> None:
    server.fault("GET /cdn/.*", cut_after_bytes=500_000, count=None)
    repository, file = await big_of(hub)
    assert (await hub.download(repository, file)).read_bytes() == served.big
    assert len(server.log("cdn")) == 9


async def test_a_server_that_ignores_ranges_is_read_from_the_start(hub: Hub, server: HubServer, served: Served) -> None:
    server.fault("GET /cdn/.*", cut_after_bytes=2_000_000)
    server.fault("GET /cdn/.*", no_range=True)
    repository, file = await big_of(hub)
    assert (await hub.download(repository, file)).read_bytes() == served.big
    assert [entry.status for entry in server.log("cdn")] == [200, 200]
    assert server.log("cdn")[1].sent_bytes == BIG_BYTES


async def test_a_server_that_ignores_ranges_and_always_cuts_is_given_up(hub: Hub, server: HubServer) -> None:
    server.fault("GET /cdn/.*", cut_after_bytes=2_000_000, no_range=True, count=None)
    repository, file = await big_of(hub)
    with pytest.raises(HubError):
        await hub.download(repository, file)
    assert len(server.log("cdn")) <= 4


async def test_a_stalled_server_is_asked_again_and_then_given_up(hub: Hub, server: HubServer, served: Served) -> None:
    server.fault("GET /cdn/.*", stall_after_bytes=1_000_000)
    repository, file = await big_of(hub)
    assert (await hub.download(repository, file)).read_bytes() == served.big
    assert server.log("cdn")[1].range == "bytes=1000000-"
    await hub.remove(hub.cached(repository, file) or Path())
    server.fault("GET /cdn/.*", hang_s=60, count=None)
    with pytest.raises(HubError, match="no answer in time"):
        await hub.download(repository, file)


async def test_a_rate_limit_on_the_file_is_shown_as_waiting(hub: Hub, server: HubServer) -> None:
    server.fault("GET /cdn/.*", status=429, headers={"Retry-After": "0"})
    server.fault("HEAD /org/model/resolve/.*", status=429, headers={"Retry-After": "0"})
    repository, file = await big_of(hub)
    listener = Listener()
    await hub.download(repository, file, listener)
    waits = [step.message for step in listener.heard if step.phase == "waiting"]
    assert len(waits) == 2
    assert all("slow down" in (message or "") for message in waits)


async def test_an_expired_location_is_asked_for_again(hub: Hub, server: HubServer, served: Served) -> None:
    server.fault("GET /cdn/.*", status=403)
    repository, file = await big_of(hub)
    assert (await hub.download(repository, file)).read_bytes() == served.big
    assert [entry.method for entry in server.log("/resolve/")] == ["HEAD", "HEAD"]


async def test_a_cdn_that_always_refuses_is_given_up(hub: Hub, server: HubServer) -> None:
    server.fault("GET /cdn/.*", status=403, count=None)
    repository, file = await big_of(hub)
    with pytest.raises(HubError, match="status 403"):
        await hub.download(repository, file)
    assert len(server.log("cdn")) == 3


async def test_a_hub_that_contradicts_itself_is_refused_before_the_first_byte(hub: Hub, server: HubServer) -> None:
    repository, file = await big_of(hub)
    for headers in ({"X-Linked-Etag": f'"{"0" * 64}"'}, {"X-Linked-Size": "7"}, {"Location": "file:///etc/passwd"}):
        full = {"Location": f"{server.cdn_url}/cdn/{file.digest}", "X-Linked-Etag": file.digest, **headers}
        server.fault("HEAD .*", status=302, headers=full)
        with pytest.raises(HubError):
            await hub.download(repository, file)
    assert server.log("cdn") == []


async def test_more_bytes_than_announced_are_not_taken(hub: Hub, server: HubServer, cache_dir: Path) -> None:
    repository, _ = await big_of(hub)
    sha256 = repository.file("big.gguf").sha256
    shorter = RemoteFile("big.gguf", BIG_BYTES - 1, sha256="e" * 64)
    location = {"Location": f"{server.cdn_url}/cdn/{sha256}"}
    server.fault("HEAD .*", status=302, headers=location)
    with pytest.raises(ChecksumMismatch, match="more"):
        await hub.download(repository, shorter)
    assert everything_below(cache_dir) == []


async def test_a_wrong_range_is_not_appended(hub: Hub, server: HubServer, served: Served) -> None:
    server.fault("GET /cdn/.*", cut_after_bytes=1_000_000)
    server.fault("GET /cdn/.*", status=206, headers={"Content-Range": f"bytes 5-9/{BIG_BYTES}"})
    server.fault("GET /cdn/.*", status=416, headers={"Content-Range": f"bytes */{BIG_BYTES}"})
    repository, file = await big_of(hub)
    with pytest.raises(HubError, match="416"):
        await hub.download(repository, file)
    assert (await hub.download(repository, file)).read_bytes() == served.big


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


async def test_too_little_space_is_said_before_the_first_byte(
    make_hub: MakeHub, server: HubServer, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = make_hub(reserve_bytes=MIB)
    repository, file = await big_of(hub)
    usage = shutil.disk_usage("/")._replace(free=BIG_BYTES + MIB - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(DiskFull, match=r"5\.0 MiB more are needed, 5\.0 MiB are free at") as caught:
        await hub.download(repository, file)
    assert str(cache_dir) in caught.value.message
    with pytest.raises(DiskFull):
        await hub.check_space(repository, repository.files)
    assert server.log("cdn") == []
    await hub.download(repository, repository.file("README.md"))
    await hub.check_space(repository, [repository.file("README.md")])


class FullDisk(FileIO):
    """A file on a disk that fills up in the middle of a write."""

    room_bytes = 1_500_000

    def write(self, data: Any, /) -> int:
        room = self.room_bytes - self.tell()
        if room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(memoryview(data)[:room])


async def test_a_disk_that_fills_up_keeps_the_sound_part_and_registers_nothing(
    hub: Hub, server: HubServer, served: Served, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, file = await big_of(hub)
    with monkeypatch.context() as patched:
        patched.setattr("lilliput.hub.part.FileIO", FullDisk)
        with pytest.raises(DiskFull, match="more are needed"):
            await hub.download(repository, file)
    assert hub.cached(repository, file) is None
    assert not Cache(cache_dir).pointer(repository, file).exists()
    kept = Cache(cache_dir).part(repository, file).stat().st_size
    assert 0 < kept <= FullDisk.room_bytes
    assert (await hub.download(repository, file)).read_bytes() == served.big
    assert server.log("cdn")[-1].range == f"bytes={kept}-"


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


async def test_a_cache_that_cannot_be_written_is_named(hub: Hub, cache_dir: Path) -> None:
    repository, file = await big_of(hub)
    cache_dir.write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        await hub.download(repository, file)


async def test_a_removed_file_is_gone_with_its_content(hub: Hub, cache_dir: Path) -> None:
    repository, file = await big_of(hub)
    path = await hub.download(repository, file)
    assert await hub.remove(path) == BIG_BYTES
    assert everything_below(cache_dir) == []
