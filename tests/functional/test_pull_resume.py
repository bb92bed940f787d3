"""Pulls that are interrupted: by a killed daemon, a full disk, damaged bytes, a person; and what is fetched after."""

from __future__ import annotations

import hashlib
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.daemon import DaemonProcess
from tests.support.hub import HubServer
from tests.support.pulling import (
    QUICK,
    ask,
    data_requests,
    eventually,
    installed,
    phases,
    pull,
    pull_until,
    run_cli,
    start_cli,
    trouble_for_data,
)
from tests.support.small_disk import MB, fill_up, small_disk
from tests.support.variants import Variants

from lilliput_client import Client, Job

pytestmark = pytest.mark.functional

Offer = Callable[..., str]
SLOW_BYTES_PER_S = 20 * MB
IN_FLIGHT_BYTES = 12 * MB
"""What a server may have sent that its peer never wrote: buffers of sockets, and one batch."""


def has(fetched_bytes: int) -> Callable[[Job], bool]:
    return lambda job: (job.completed_bytes or 0) >= fetched_bytes


def assert_only_the_rest_was_fetched(hub: HubServer, size_bytes: int, least_bytes: int) -> None:
    """Two requests: the first cut short, the second for the bytes from there on."""
    first, second = data_requests(hub)
    assert first.range is None
    assert second.range is not None
    start = int(second.range.removeprefix("bytes=").removesuffix("-"))
    assert least_bytes <= start <= first.sent_bytes < size_bytes
    assert second.status == 206
    assert second.sent_bytes == size_bytes - start
    assert first.sent_bytes + second.sent_bytes < size_bytes + IN_FLIGHT_BYTES


def only_file(daemon: DaemonProcess, name: str) -> Path:
    with Client(daemon.url) as client:
        (file,) = client.show(name).files
    path = Path(file.path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256
    return path


@pytest.mark.parametrize("again", ["by itself", "by the same command"])
def test_a_killed_daemons_pull_goes_on_where_it_stopped(
    again: str, hub: HubServer, offer: Offer, variants: Variants, tmp_path: Path
) -> None:
    repo = offer("Q4_K_M")
    daemon = DaemonProcess(tmp_path, hub.environment(tmp_path / "hf") | QUICK)
    daemon.start()
    try:
        trouble_for_data(hub, daemon, repo, bytes_per_s=SLOW_BYTES_PER_S)
        begun = pull_until(daemon, repo, has(20 * MB))
        daemon.kill()
        assert begun.state == "running"
        daemon.start()
        if again == "by itself":
            with Client(daemon.url) as client:
                *_, ended = client.follow_job(begun.id)
            assert ended.result is not None
            assert ended.result["name"] == f"{repo}:Q4_K_M"
        else:
            assert run_cli(daemon, "pull", repo).returncode == 0
            with Client(daemon.url) as client:
                (ended,) = client.jobs()
        assert (ended.id, ended.state) == (begun.id, "done")
        size_bytes = variants.size_bytes("Q4_K_M")
        assert ended.completed_bytes == ended.total_bytes == size_bytes
        assert_only_the_rest_was_fetched(hub, size_bytes, 20 * MB)
        only_file(daemon, f"{repo}:Q4_K_M")
        assert not list(tmp_path.rglob("*.part"))
    finally:
        daemon.stop()
    shutil.rmtree(tmp_path / "hf")


def test_a_flipped_byte_is_refused_and_the_next_pull_succeeds(
    pulling: DaemonProcess, hub: HubServer, offer: Offer, variants: Variants
) -> None:
    repo = offer("Q4_K_M")
    trouble_for_data(hub, pulling, repo, corrupt_at=50 * MB)
    refused = run_cli(pulling, "pull", repo)
    assert refused.returncode == 1
    assert (
        f"error: the bytes of {repo}/SmolLM2-135M-Instruct-Q4_K_M.gguf are not those the Hub announced"
        in refused.stderr
    )
    assert "hint: they were thrown away" in refused.stderr
    assert f"{repo}:Q4_K_M" not in installed(pulling)
    folder = pulling.data_dir / "hf" / "hub" / f"models--{repo.replace('/', '--')}"
    assert not [path for path in folder.rglob("*") if path.is_file()]
    with Client(pulling.url) as client:
        failed = client.jobs()[-1]
    assert failed.error is not None
    assert failed.error.code == "checksum-mismatch"

    assert pull(pulling, repo)[-1].state == "done"
    assert [request.range for request in data_requests(hub)] == [None, None]
    only_file(pulling, f"{repo}:Q4_K_M")


def test_ctrl_c_cancels_and_the_same_command_goes_on(
    pulling: DaemonProcess, hub: HubServer, offer: Offer, variants: Variants
) -> None:
    repo = offer("Q4_K_M")
    trouble_for_data(hub, pulling, repo, bytes_per_s=SLOW_BYTES_PER_S)
    with start_cli(pulling, "pull", repo) as command, Client(pulling.url) as client:
        eventually(lambda: any(job.model == repo and has(10 * MB)(job) for job in client.jobs()))
        command.send_signal(signal.SIGINT)
        _, said = command.communicate(timeout=10)
        assert command.returncode == 130
        assert said.rstrip().endswith(f"cancelled; what is there is kept, go on with: lilliput pull {repo}")
        assert next(job.state for job in client.jobs() if job.model == repo) == "cancelled"
    assert f"{repo}:Q4_K_M" not in installed(pulling)
    assert run_cli(pulling, "pull", repo).returncode == 0
    assert_only_the_rest_was_fetched(hub, variants.size_bytes("Q4_K_M"), 10 * MB)
    only_file(pulling, f"{repo}:Q4_K_M")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 160 MB."""
    with small_disk(tmp_path / "disk", 160 * MB) as place:
        yield place


def test_a_full_disk_is_told_and_what_was_fetched_is_used_once_there_is_room(
    disk: Path, hub: HubServer, offer: Offer, variants: Variants, tmp_path: Path
) -> None:
    repo = offer("Q4_K_M")
    size_bytes = variants.size_bytes("Q4_K_M")
    filler = disk / "filler"
    with DaemonProcess(tmp_path / "data", hub.environment(disk) | QUICK) as daemon:
        filler.write_bytes(bytes(60 * MB))
        refused = run_cli(daemon, "pull", repo)
        assert refused.returncode == 1
        assert "error: the disk is full: " in refused.stderr
        assert "hint: free some space, or set HF_HOME" in refused.stderr
        assert not data_requests(hub), "there was not room enough from the start"

        filler.unlink()
        trouble_for_data(hub, daemon, repo, bytes_per_s=SLOW_BYTES_PER_S)
        pull_until(daemon, repo, has(20 * MB))
        fill_up(filler)
        failed = pull(daemon, repo)[-1]
        assert failed.error is not None
        assert (failed.state, failed.error.code) == ("failed", "disk-full")
        assert installed(daemon) == set()
        (part,) = [path for path in disk.rglob("*") if path.is_file() and path.suffix not in ("", ".lock")]
        assert part.name.endswith(".part")
        assert 20 * MB <= part.stat().st_size < size_bytes

        filler.unlink()
        resumed = pull(daemon, repo)
        assert resumed[-1].state == "done"
        assert "checking" in phases(resumed)
        assert_only_the_rest_was_fetched(hub, size_bytes, 20 * MB)
        only_file(daemon, f"{repo}:Q4_K_M")
        assert "Paris" in ask(daemon, repo)
