"""Installed files that somebody damaged, found by the real command, and made whole by the remedy that it names."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.functional.conftest import MODEL
from tests.support.daemon import DaemonProcess
from tests.support.hub import HubServer, RepositoryConfig
from tests.support.pulling import QUICK, ask, data_requests, eventually, pull, run_cli, start_cli
from tests.support.variants import Variants
from tests.unit.services.gguf_files import tiny_gguf

from lilliput_client import Client, Job, file_reports

pytestmark = pytest.mark.functional

Offer = Callable[..., str]
GB = 1_000_000_000


def files_of(daemon: DaemonProcess, name: str) -> list[Path]:
    with Client(daemon.url) as client:
        return [Path(file.path) for file in client.show(name).files]


def flip_byte(path: Path, at: int = 1_000_000) -> None:
    with path.open("r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)
        stream.seek(at)
        stream.write(bytes([byte[0] ^ 1]))


def verified(daemon: DaemonProcess, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = run_cli(daemon, "verify", *arguments, "--json")
    assert "error" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)["result"]


def test_one_flipped_byte_is_found_and_the_remedy_mends_it(
    pulling: DaemonProcess, hub: HubServer, offer: Offer, variants: Variants
) -> None:
    repo = offer("Q2_K", "Q4_0")
    for quantization in ("Q2_K", "Q4_0"):
        assert pull(pulling, f"{repo}:{quantization}")[-1].state == "done"
    name = f"{repo}:Q2_K"
    assert verified(pulling, repo)[0] == 0
    (path,) = files_of(pulling, name)
    recorded = next(one for one in verified(pulling, repo)[1]["files"] if one["model"] == name)["expected_sha256"]

    flip_byte(path)
    told = run_cli(pulling, "verify", repo)
    assert told.returncode == 1
    assert "1 of 2 files damaged" in told.stderr
    assert f"{path}\n  its SHA-256 is " in told.stdout
    assert f"{recorded} was expected\n  remedy: lilliput pull {name}\n" in told.stdout
    states = {line.split()[0]: line for line in told.stdout.splitlines() if line.startswith(repo)}
    assert " damaged " in states[name]
    assert " sound " in states[f"{repo}:Q4_0"]
    assert path.is_file(), "nothing is removed"

    hub.reset()
    assert run_cli(pulling, "pull", name).returncode == 0
    assert [request.sent_bytes for request in data_requests(hub)] == [variants.size_bytes("Q2_K")]
    assert verified(pulling, name)[0] == 0
    hub.reset()
    assert pull(pulling, name)[-1].message == f"{name} is up to date"
    assert "Paris" in ask(pulling, f"{repo}:Q4_0")


def test_truncated_and_missing_parts_are_told_with_sizes_and_only_they_are_fetched_again(
    pulling: DaemonProcess, hub: HubServer, offer: Offer, variants: Variants
) -> None:
    repo = offer(files={path.name: str(path) for path in variants.split})
    assert pull(pulling, repo)[-1].state == "done"
    (name,) = {model for model in names(pulling) if model.startswith(repo)}
    first, second = files_of(pulling, name)
    size = first.stat().st_size
    with first.resolve().open("r+b") as stream:
        stream.truncate(1000)
    code, result = verified(pulling, name)
    one, other = result["files"]
    assert (code, one["state"], one["found_bytes"], other["state"]) == (1, "damaged", 1000, "sound")
    assert one["fault"] == f"it has 1000 bytes, {size} were expected"

    second.resolve().unlink()
    code, result = verified(pulling, name)
    assert (code, [file["state"] for file in result["files"]]) == (1, ["damaged", "missing"])
    assert {file["remedy"] for file in result["files"]} == {f"lilliput pull {name}"}
    hub.reset()
    assert run_cli(pulling, "pull", name).returncode == 0
    assert len(data_requests(hub)) == 2
    assert verified(pulling, name)[0] == 0


def test_the_hub_is_compared_with_what_was_recorded(
    pulling: DaemonProcess, hub: HubServer, offer: Offer, variants: Variants
) -> None:
    repo = offer("Q2_K")
    assert pull(pulling, f"{repo}:Q2_K")[-1].state == "done"
    code, result = verified(pulling, repo, "--hub")
    assert (code, [file["hub"] for file in result["files"]]) == (0, ["same"])

    hub.fault("GET /api/models/.*", status=503)
    code, result = verified(pulling, repo, "--hub")
    (file,) = result["files"]
    assert (code, file["state"], file["hub"]) == (0, "sound", "unknown")
    assert "503" in file["hub_reason"]

    offer_again(hub, repo, variants.served("Q4_0"))
    told = run_cli(pulling, "verify", repo, "--hub")
    assert told.returncode == 0, "what was installed is sound"
    assert "gone" in told.stdout
    assert "the Hub has no such revision" in told.stdout


def test_local_files_are_known_from_their_first_verification_on(pulling: DaemonProcess, tmp_path: Path) -> None:
    path = tmp_path / "own-F16.gguf"
    path.write_bytes(tiny_gguf())
    assert run_cli(pulling, "pull", str(path)).returncode == 0
    states = []
    for change in (None, None, rot, overwrite):
        if change is not None:
            change(path)
        code, result = verified(pulling, str(path))
        states.append((code, result["files"][0]["state"]))
    assert states == [(0, "recorded"), (0, "sound"), (1, "damaged"), (0, "changed")]
    assert run_cli(pulling, "rm", str(path)).returncode == 0
    refused = run_cli(pulling, "verify", str(path))
    assert refused.returncode == 1
    assert "is not installed" in refused.stderr


def test_all_models_are_verified_where_none_is_named(pulling: DaemonProcess) -> None:
    code, result = verified(pulling)
    assert code == 0
    assert {file["model"] for file in result["files"]} == names(pulling)
    assert MODEL in names(pulling)


def test_a_verification_goes_on_after_a_kill_and_ends_by_ctrl_c(tmp_path: Path) -> None:
    small, large = tmp_path / "a-F16.gguf", tmp_path / "b-F16.gguf"
    small.write_bytes(tiny_gguf())
    large.write_bytes(tiny_gguf())
    with large.open("r+b") as stream:
        stream.truncate(60 * GB)  # a hole: read as zeros, which takes most of a minute
    daemon = DaemonProcess(tmp_path / "data", QUICK)
    daemon.start()
    try:
        with Client(daemon.url) as client:
            for path in (small, large):
                list(client.pull(str(path)))
            job = client.start_verify([str(small), str(large)])
            assert client.start_verify([str(small), str(large)]).id == job.id, "the same question is the same job"
            eventually(lambda: (client.job(job.id).completed_bytes or 0) > GB)
        daemon.kill()
        daemon.start()
        with start_cli(daemon, "verify", str(small), str(large)) as command, Client(daemon.url) as client:
            eventually(lambda: is_at(client.job(job.id), large))
            (first,) = file_reports(client.job(job.id))
            assert (first.path, first.state) == (str(small), "recorded"), "it was not read again: it would be sound"
            assert command.stderr is not None
            assert "hashing b-F16.gguf" in command.stderr.readline()
            command.send_signal(signal.SIGINT)
            _, said = command.communicate(timeout=10)
            assert command.returncode == 130
            assert f"cancelled; start over with: lilliput verify {small} {large}" in said
            assert client.job(job.id).state == "cancelled"
            assert [file.path for file in file_reports(client.job(job.id))] == [str(small)]
    finally:
        daemon.stop()


def names(daemon: DaemonProcess) -> set[str]:
    with Client(daemon.url) as client:
        return {model.name for model in client.models()}


def is_at(job: Job, path: Path) -> bool:
    return job.state == "running" and job.file == str(path)


def overwrite(path: Path) -> None:
    flip_byte(path, 41)


def rot(path: Path) -> None:
    """Change a byte as a failing disk does: without a trace in the file's times."""
    status = path.stat()
    flip_byte(path, 40)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def offer_again(hub: HubServer, repo: str, files: dict[str, str]) -> None:
    hub.add(repo, RepositoryConfig(files))
