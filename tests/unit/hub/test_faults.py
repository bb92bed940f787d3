from __future__ import annotations

import errno
import shutil
from io import FileIO
from pathlib import Path
from typing import Any

import pytest
from tests.support.hub import HubServer
from tests.unit.hub.conftest import BIG_BYTES, MakeHub, Served
from tests.unit.hub.listening import Listener, big_of, everything_below

from lilliput.errors import ChecksumMismatch, DiskFull, HubError, StorageError
from lilliput.hub import Hub, RemoteFile
from lilliput.hub.cache import Cache
from lilliput.units import MIB


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


async def test_a_cache_that_cannot_be_written_is_named(hub: Hub, cache_dir: Path) -> None:
    repository, file = await big_of(hub)
    cache_dir.write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        await hub.download(repository, file)
