"""Pruning over a real store, a real cache and jobs that come and go."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lilliput.catalogue import InstalledFile, InstalledModel, Store
from lilliput.hub import CacheEntry
from lilliput.hub.leftovers import Leftovers
from lilliput.services.fetched import all_fetched, forget_fetched, note_fetched
from lilliput.services.job_records import Job
from lilliput.services.own_files import OwnFiles
from lilliput.services.prune import Garbage

NOW = 1_700_000_000.0
OLD = NOW - 9 * 86400
A, B, C = "a" * 64, "b" * 64, "c" * 64
PULL = Job("job-1", "pull", "llama3.1", "running", NOW, NOW)


class Bench:
    """A daemon's files; ``before_discard`` is what happens just before a file is removed."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "hub"
        self.data = directory / "data"
        self.store = Store(self.data)
        self.store.open()
        self.jobs: list[Job] = []
        self.leftovers_of_cache = Leftovers(self.root)
        self.seen: list[Path] = []
        self.garbage = Garbage(self.store, self, self, OwnFiles(self.data), clock=lambda: NOW)

    def list(self) -> tuple[Job, ...]:
        return tuple(self.jobs)

    async def leftovers(self) -> tuple[CacheEntry, ...]:
        return self.leftovers_of_cache.list()

    async def discard(self, entry: CacheEntry) -> int | None:
        self.seen.append(entry.path)
        self.jobs = [PULL, *self.jobs]  # a pull begins in the middle
        return self.leftovers_of_cache.remove(entry)

    def put(self, name: str, repo: str = "org/m", at: float = OLD) -> Path:
        path = self.root / f"models--{repo.replace('/', '--')}" / "blobs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
        os.utime(path, (at, at))
        return path

    async def garbage_paths(self, older_than_s: float = 7 * 86400.0) -> set[Path]:
        return {judged.found.path for judged in (await self.garbage.find(older_than_s)).garbage}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.store.close()


async def test_contents_count_only_where_they_were_fetched_and_are_not_installed(bench: Bench) -> None:
    installed, orphan, foreign = (bench.put(name) for name in (A, B, C))
    pointer = bench.root / "models--org--m" / "snapshots" / ("1" * 40) / "m.gguf"
    pointer.parent.mkdir(parents=True)
    pointer.symlink_to("../../blobs/" + A)
    file = InstalledFile(pointer, 5)
    bench.store.add(InstalledModel("m", "hub", (file,), repo="org/m"))
    note_fetched(bench.store, "org/m", [A, B, None], OLD)
    assert await bench.garbage_paths() == {orphan}
    note_fetched(bench.store, "org/m", [B], NOW - 3600)
    assert await bench.garbage_paths() == set(), "its age counts from when it was let go"
    bench.store.add(InstalledModel("m", "hub", (replace(file, sha256=C),), repo="org/m"))
    bench.store.remove("m")
    assert await bench.garbage_paths(0.0) == {installed, orphan}
    assert foreign.is_file()


async def test_what_went_is_forgotten_and_what_others_began_to_use_meanwhile_stays(bench: Bench) -> None:
    first, second = bench.put(A), bench.put(B)
    foreign = bench.put(f"{C}.lilliput.part", "org/other")
    note_fetched(bench.store, "org/m", [A, B], OLD)
    pruned = await bench.garbage.prune()
    assert {judged.found.path for judged in pruned.removed} == {bench.seen[0]}
    assert {judged.found.path for judged in pruned.skipped} == {first, second, foreign} - {bench.seen[0]}
    assert len(bench.seen) == 1, "a pull that has not told its files may want any"
    assert pruned.freed_bytes == 5
    assert set(all_fetched(bench.store)) == {("org/m", A), ("org/m", B)} - {("org/m", bench.seen[0].name)}


@pytest.mark.parametrize(
    ("job", "stays"),
    [
        (PULL, True),
        (replace(PULL, result={"repo": "org/other", "files": []}), False),
        (replace(PULL, result={"repo": "org/m", "files": []}), True),
        (replace(PULL, result={"files": [{"sha256": A}]}), True),
        (replace(PULL, state="failed", result={"repo": "org/m", "files": []}), False),
        (replace(PULL, kind="verify"), False),
    ],
)
async def test_parts_stay_while_a_job_may_go_on_with_them(bench: Bench, job: Job, stays: bool) -> None:
    part = bench.put(f"{A}.lilliput.part")
    bench.jobs = [job]
    assert await bench.garbage_paths() == (set() if stays else {part})


async def test_only_what_was_shown_goes(bench: Bench) -> None:
    models = [bench.data / name for name in ("a.gguf", "b.gguf")]
    for model in models:
        model.write_bytes(b"12345")
        os.utime(model, (OLD, OLD))
    pruned = await bench.garbage.prune(paths={str(models[1]), "/etc/passwd"})
    assert [judged.found.path for judged in pruned.removed] == [models[1]]
    assert models[0].is_file()


async def test_what_lies_beside_an_installed_model_may_belong_to_it(bench: Bench) -> None:
    folder = bench.data / "models"
    folder.mkdir()
    for name in ("m.gguf", "mmproj.gguf"):
        (folder / name).write_bytes(b"12345")
        os.utime(folder / name, (OLD, OLD))
    bench.store.add(InstalledModel(str(folder / "m.gguf"), "file", (InstalledFile(folder / "m.gguf", 5),)))
    assert await bench.garbage_paths() == set()
    bench.store.remove(str(folder / "m.gguf"))
    assert await bench.garbage_paths() == {folder / "m.gguf", folder / "mmproj.gguf"}


def test_fetched_contents_are_remembered_until_they_are_forgotten(bench: Bench) -> None:
    note_fetched(bench.store, "org/m", [A, None], 1.5)
    note_fetched(bench.store, "bare", [B], 2.0)
    bench.store.set_fact("fetchedXother", "no")
    assert all_fetched(bench.store) == {("org/m", A): 1.5, ("bare", B): 2.0}
    forget_fetched(bench.store, "org/m", [A, None])
    assert all_fetched(bench.store) == {("bare", B): 2.0}
