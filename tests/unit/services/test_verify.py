"""Verifications over a real store and real files."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.unit.services.gguf_files import tiny_gguf

from lilliput.catalogue import InstalledFile, InstalledModel, Store, StoredJob
from lilliput.errors import HubUnreachable
from lilliput.hub import OnWait, RemoteFile, Repository
from lilliput.services.damage import is_damaged
from lilliput.services.file_checks import check_file
from lilliput.services.job_records import Job
from lilliput.services.jobs import Jobs
from lilliput.services.verify import Verifications

COMMIT = "1" * 40


class Bench:
    """A daemon that verifies; ``remote`` is what its Hub tells of every repository."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = Store(directory / "data")
        self.store.open()
        self.remote: tuple[RemoteFile, ...] | None = None
        self.build()

    def build(self) -> None:
        self.jobs = Jobs(self.store)
        self.verifications = Verifications(self.jobs, self.store, self, self)

    async def select(self, names: Sequence[str]) -> tuple[InstalledModel, ...]:
        return tuple(model for model in self.store.installed() if not names or model.name in names)

    async def repository(
        self, repo_id: str, revision: str = "main", *, on_wait: OnWait | None = None, brief: bool = False
    ) -> Repository:
        assert (revision, brief) == (COMMIT, True)
        if self.remote is None:
            raise HubUnreachable("no answer")
        return Repository(repo_id, revision, self.remote)

    def install(self, name: str, *contents: bytes, source: Any = "hub") -> list[Path]:
        folder = self.directory / name.replace("/", "-").replace(":", "-") / "snapshots" / COMMIT
        folder.mkdir(parents=True)
        files = []
        for index, content in enumerate(contents):
            path = folder / f"{index}.gguf"
            path.write_bytes(content)
            digest = hashlib.sha256(content).hexdigest() if source == "hub" else None
            files.append(InstalledFile(path, len(content), digest))
        hub: dict[str, Any] = {"repo": "org/m", "revision": COMMIT} if source == "hub" else {}
        self.store.add(InstalledModel(name, source, tuple(files), **hub))
        return [file.path for file in files]

    async def verify(self, *names: str, hub: bool = False) -> Job:
        job = await self.verifications.start(names, hub=hub)
        async with asyncio.timeout(10):
            return [seen async for seen in self.jobs.events(job.id)][-1]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.store.close()


def states(job: Job) -> list[str]:
    return [file["state"] for file in job.result["files"]]


async def test_each_way_to_be_bad_is_told_with_numbers_and_a_remedy(bench: Bench) -> None:
    paths = bench.install("org/m:Q4_0", b"sound", b"flipped", b"too long", b"missing", b"a folder")
    paths[1].write_bytes(b"flopped")
    paths[2].write_bytes(b"short")
    paths[3].unlink()
    paths[4].unlink()
    paths[4].mkdir()
    job = await bench.verify()
    assert (job.state, job.message, job.completed_bytes, job.total_bytes) == ("done", "4 of 5 files damaged", 35, 35)
    assert states(job) == ["sound", "damaged", "damaged", "missing", "unreadable"]
    assert (job.result["checked"], job.result["damaged"]) == (5, 4)
    sound, flipped, short, missing, folder = job.result["files"]
    assert sound["remedy"] is None
    assert {file["remedy"] for file in (flipped, short, missing, folder)} == {"lilliput pull org/m:Q4_0"}
    expected, found = (hashlib.sha256(text).hexdigest() for text in (b"flipped", b"flopped"))
    assert (flipped["expected_sha256"], flipped["found_sha256"]) == (expected, found)
    assert flipped["fault"] == f"its SHA-256 is {found}, {expected} was expected"
    assert (short["fault"], short["found_bytes"]) == ("it has 5 bytes, 8 were expected", 5)
    assert (missing["fault"], folder["fault"]) == ("it is gone", "it is no file")
    assert is_damaged(bench.store, "org/m:Q4_0")

    for path, content in zip(paths[1:4], (b"flipped", b"too long", b"missing"), strict=True):
        path.write_bytes(content)
    paths[4].rmdir()
    paths[4].write_bytes(b"a folder")
    assert (await bench.verify("org/m:Q4_0")).message == "all files are sound"
    assert not is_damaged(bench.store, "org/m:Q4_0")


async def test_remedies_follow_where_a_model_came_from(bench: Bench) -> None:
    for source in ("file", "embedded"):
        bench.install(source, b"content", source=source)[0].unlink()
    remedies = {file["model"]: file["remedy"] for file in (await bench.verify()).result["files"]}
    assert remedies["file"].endswith("lilliput pull file")
    assert remedies["embedded"] == "install lilliput again: this file comes with it"


async def test_a_file_without_a_digest_gets_one_and_rot_is_told_from_a_change(bench: Bench) -> None:
    (path,) = bench.install("own", b"content", source="file")
    assert states(await bench.verify()) == ["recorded"]
    assert states(await bench.verify()) == ["sound"]
    before = path.stat()
    path.write_bytes(b"kontent")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert states(await bench.verify()) == ["damaged"]
    path.write_bytes(b"kontent")
    os.utime(path, (1, 1))
    changed = await bench.verify()
    assert (states(changed), changed.result["damaged"]) == (["changed"], 0)
    os.utime(path, (2, 2))
    assert states(await bench.verify()) == ["sound"], "written again, as it was"


async def test_the_hub_is_asked_what_it_says_of_that_revision(bench: Bench) -> None:
    bench.install("org/m:Q4_0", b"one", b"two", b"three")
    bench.install("own", tiny_gguf(), source="file")
    digest = hashlib.sha256(b"one").hexdigest()
    bench.remote = (RemoteFile("0.gguf", 3, digest), RemoteFile("1.gguf", 3, "e" * 64))
    job = await bench.verify(hub=True)
    told = [(file["hub"], file["state"]) for file in job.result["files"]]
    assert told == [("same", "sound"), ("differs", "sound"), ("gone", "sound"), (None, "recorded")]
    assert job.result["damaged"] == 1
    assert job.result["files"][1]["remedy"] == "lilliput pull org/m:Q4_0"
    assert "e" * 64 in job.result["files"][1]["hub_reason"]
    bench.remote = None
    job = await bench.verify("org/m:Q4_0", hub=True)
    assert {(file["hub"], file["hub_reason"]) for file in job.result["files"]} == {("unknown", "no answer")}
    assert job.result["damaged"] == 0


async def test_the_same_content_is_read_once(bench: Bench) -> None:
    (path,) = bench.install("a", b"content")
    bench.store.add(InstalledModel("b", "hub", (bench.store.installed()[0].files[0],), repo="org/m", revision=COMMIT))
    path.write_bytes(b"kontent")
    job = await bench.verify()
    assert states(job) == ["damaged", "damaged"]
    assert {file["model"] for file in job.result["files"]} == {"a", "b"}


async def test_after_a_restart_it_goes_on_with_the_file_it_was_at(bench: Bench) -> None:
    first, second = bench.install("m", b"first", b"second")
    done = await bench.verify("m")
    kept = {**done.result["files"][0], "found_sha256": "read by a former process"}
    first.write_bytes(b"other")
    body = {"model": "m", "request": {"models": ["m", "removed"], "hub": False}, "result": {"files": [kept]}}
    bench.store.save_job(StoredJob("job-x", "verify", "running", 1.0, 1.0, json.loads(json.dumps(body))))
    bench.build()
    await bench.jobs.start()
    async with asyncio.timeout(10):
        job = [seen async for seen in bench.jobs.events("job-x")][-1]
    assert job.state == "done"
    assert job.result["files"][0] == kept
    assert job.result["files"][1]["path"] == str(second)
    assert states(job) == ["sound", "sound"]


async def test_the_same_question_is_the_same_job_and_a_cancel_ends_it(bench: Bench) -> None:
    (path,) = bench.install("m", b"x")
    with path.open("r+b") as stream:
        stream.truncate(20_000_000_000)
    (file,) = bench.store.installed()[0].files
    bench.store.add(InstalledModel("m", "hub", (InstalledFile(file.path, 20_000_000_000, file.sha256),)))
    job = await bench.verifications.start(["m"])
    assert (await bench.verifications.start(["m"])).id == job.id
    assert (await bench.verifications.start(["m"], hub=True)).id != job.id
    async with asyncio.timeout(10):
        async for seen in bench.jobs.events(job.id):
            if seen.completed_bytes:
                break
        cancelled = await bench.jobs.cancel(job.id)
    assert cancelled.state == "cancelled"
    await bench.jobs.aclose()


async def test_progress_counts_every_byte(bench: Bench) -> None:
    bench.install("m", bytes(40_000_000))
    (file,) = bench.store.installed()[0].files
    pieces: list[int] = []
    assert (await check_file(bench.store, file, pieces.append)).state == "sound"
    assert len(pieces) > 1
    assert sum(pieces) == 40_000_000
