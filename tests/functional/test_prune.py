"""What lies about after pulls that ended badly, removed by the real command, and what must stay."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.daemon import DaemonProcess
from tests.support.hub import HubServer, RepositoryConfig
from tests.support.pulling import QUICK, ask, eventually, pull, pull_until, run_cli, trouble_for_data
from tests.support.variants import Variants

from lilliput_client import Client, Job

pytestmark = pytest.mark.functional

Offer = Callable[..., str]
DAY_S = 86400
MB = 1_000_000


@pytest.fixture
def daemon(tmp_path: Path, hub: HubServer) -> Iterator[DaemonProcess]:
    """A daemon of its own: others' garbage is not to be touched."""
    with DaemonProcess(tmp_path / "data", hub.environment(tmp_path / "hf") | QUICK) as started:
        yield started
    shutil.rmtree(tmp_path / "hf", ignore_errors=True)


def cache_of(daemon: DaemonProcess, repo: str) -> Path:
    return daemon.data_dir.parent / "hf" / "hub" / f"models--{repo.replace('/', '--')}"


def grow_old(path: Path, days: float) -> None:
    then = time.time() - days * DAY_S
    os.utime(path, (then, then), follow_symlinks=False)


def put(path: Path, days: float, content: bytes = b"x" * 1000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    grow_old(path, days)
    return path


def prune(daemon: DaemonProcess, *arguments: str) -> dict[str, Any]:
    done = run_cli(daemon, "prune", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def paths(files: list[dict[str, Any]]) -> set[Path]:
    return {Path(file["path"]) for file in files}


def test_old_garbage_goes_and_young_and_foreign_files_stay(daemon: DaemonProcess, tmp_path: Path) -> None:
    data = daemon.data_dir
    old = [
        put(data / "models" / "old.gguf", 8),
        put(data / "prefixes" / "k1" / "a.state", 8),
        put(data / "prefixes" / "k1" / "b.part", 8),
    ]
    young = [put(data / "models" / "young.gguf", 6), put(data / "prefixes" / "k2" / "c.state", 6)]
    foreign = [put(data / "notes.txt", 99), put(data / "families.toml", 99, b""), put(tmp_path / "out" / "m.gguf", 99)]
    (data / "linked").symlink_to(tmp_path / "out")
    (data / "prefixes" / "k3").symlink_to(tmp_path / "out")
    broken, leading_out = data / "models" / "broken.gguf", data / "models" / "unmounted.gguf"
    broken.symlink_to(data / "models" / "gone.gguf")
    leading_out.symlink_to(tmp_path / "nowhere.gguf")
    for link in (broken, leading_out, data / "linked"):
        grow_old(link, 99)

    looked = prune(daemon, "--dry-run")
    assert paths(looked["garbage"]) == {*old, broken}
    assert paths(looked["kept"]) == set(young)
    assert {file["why"] for file in looked["kept"]} == {"younger than 7 days"}
    asked = run_cli(daemon, "prune")
    assert asked.returncode == 2
    assert "--yes" in asked.stderr
    assert all(path.exists() for path in old), "nobody has agreed"

    told = run_cli(daemon, "prune", "--yes")
    assert told.returncode == 0
    assert told.stderr.endswith("4 files removed, 2.9 KiB free\n")
    assert "model file " in told.stdout
    assert not any(os.path.lexists(path) for path in (*old, broken, data / "prefixes" / "k1"))
    assert all(path.is_file() for path in (*young, *foreign))
    assert leading_out.is_symlink()
    assert (data / "linked").is_symlink()
    assert prune(daemon, "--dry-run", "--older-than", "5d")["size_bytes"] == 2000
    assert paths(prune(daemon, "--yes", "--older-than", "5d")["removed"]) == set(young)
    assert prune(daemon, "--yes") == {"removed": [], "skipped": [], "freed_bytes": 0}


def test_a_part_goes_only_when_no_job_will_resume_it(
    daemon: DaemonProcess, hub: HubServer, offer: Offer, variants: Variants
) -> None:
    repo = offer("Q4_K_M")
    trouble_for_data(hub, daemon, repo, bytes_per_s=4 * MB)
    job = pull_until(daemon, repo, fetched(MB))
    (part,) = (cache_of(daemon, repo) / "blobs").glob("*.lilliput.part")
    looked = prune(daemon, "--dry-run", "--older-than", "0s")
    assert (looked["garbage"], paths(looked["kept"])) == ([], {part})
    assert looked["kept"][0]["why"] == "a job works on it"
    assert prune(daemon, "--yes", "--older-than", "0s")["removed"] == []

    hub.fault("GET .*", hang_s=30.0)
    daemon.kill()
    daemon.start()
    looked = prune(daemon, "--dry-run", "--older-than", "0s")
    assert (looked["garbage"], paths(looked["kept"])) == ([], {part}), "the job goes on after a restart"
    with Client(daemon.url) as client:
        client.cancel_job(job.id)
    looked = prune(daemon, "--dry-run")
    assert (looked["garbage"], paths(looked["kept"])) == ([], {part}), "the same command could still go on"
    grow_old(part, 8)
    assert paths(prune(daemon, "--yes")["removed"]) == {part}
    assert not part.exists()
    assert not cache_of(daemon, repo).exists()


def test_contents_that_an_update_has_replaced_are_garbage_a_week_later_and_others_are_not(
    daemon: DaemonProcess, hub: HubServer, offer: Offer, variants: Variants
) -> None:
    repo = offer("Q4_0")
    name = f"{repo}:Q4_0"
    assert pull(daemon, name)[-1].state == "done"
    first = only_file(daemon, name)
    changed = daemon.data_dir.parent / "changed.gguf"
    changed.write_bytes(variants.path("Q4_0").read_bytes()[:-1] + b"!")
    hub.add(repo, RepositoryConfig({variants.path("Q4_0").name: str(changed)}))
    assert pull(daemon, name)[-1].state == "done"
    second = only_file(daemon, name)
    assert first != second
    others = [
        put(cache_of(daemon, repo) / "blobs" / ("e" * 64), 99),
        put(cache_of(daemon, repo) / "blobs" / f"{'f' * 64}.incomplete", 99),
        put(cache_of(daemon, "other/model") / "blobs" / ("d" * 64), 99),
    ]

    replaced = first.resolve()
    grow_old(replaced, 99)
    looked = prune(daemon, "--dry-run")
    assert looked["garbage"] == [], "it was let go just now"
    assert paths(looked["kept"]) == {replaced}
    assert paths(prune(daemon, "--yes", "--older-than", "0s")["removed"]) == {replaced}
    assert not os.path.lexists(first)
    assert second.is_file()
    assert all(path.is_file() for path in others), "what other tools fetched is theirs"
    assert "Paris" in ask(daemon, name)
    assert run_cli(daemon, "verify", name).returncode == 0


def test_a_prune_that_is_cut_short_leaves_what_is_needed_and_is_done_by_the_next(
    daemon: DaemonProcess, hub: HubServer, offer: Offer
) -> None:
    repo = offer("Q4_0")
    name = f"{repo}:Q4_0"
    assert pull(daemon, name)[-1].state == "done"
    old = [put(daemon.data_dir / "prefixes" / f"k{index % 7}" / f"{index}.state", 8) for index in range(3000)]
    command = threading.Thread(target=run_cli, args=(daemon, "prune", "--yes"))
    command.start()
    eventually(lambda: not all(path.exists() for path in old[:50]))
    daemon.kill()
    command.join()
    left = {path for path in old if path.exists()}
    assert 0 < len(left) < len(old)
    daemon.start()
    assert paths(prune(daemon, "--yes")["removed"]) == left
    assert not any(path.exists() for path in old)
    assert run_cli(daemon, "verify", name).returncode == 0


def fetched(count: int) -> Callable[[Job], bool]:
    return lambda job: (job.completed_bytes or 0) >= count


def only_file(daemon: DaemonProcess, name: str) -> Path:
    with Client(daemon.url) as client:
        (file,) = client.show(name).files
    return Path(file.path)
