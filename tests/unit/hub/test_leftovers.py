"""What is found in the Hugging Face cache, and how it is removed."""

from __future__ import annotations

import os
from pathlib import Path

import filelock
import pytest

from lilliput.hub import RemoteFile, Repository, path_in_repository
from lilliput.hub.cache import Cache
from lilliput.hub.leftovers import CacheEntry, Leftovers

DIGEST, OTHER = "a" * 64, "b" * 64
FILE = RemoteFile("folder/m.gguf", 5, sha256=DIGEST)
OLD, NEW = Repository("org/name", "1" * 40, (FILE,)), Repository("org/name", "2" * 40, (FILE,))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    cache = Cache(tmp_path / "hub")
    put(cache.blob(OLD, FILE))
    cache.link(OLD, FILE)
    return cache


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"12345")
    return path


def listed(cache: Cache) -> dict[str, CacheEntry]:
    return {entry.kind: entry for entry in Leftovers(cache.root).list()}


def test_blobs_come_with_what_leads_to_them_and_goes_with_them(cache: Cache) -> None:
    cache.link(NEW, FILE)
    pointers = {cache.pointer(OLD, FILE), cache.pointer(NEW, FILE)}
    blob = listed(cache)["blob"]
    assert (blob.repo_id, blob.digest, blob.size_bytes, set(blob.pointers)) == ("org/name", DIGEST, 5, pointers)
    assert Leftovers(cache.root).remove(blob) == 5
    assert not (cache.root / "models--org--name").exists(), "nothing is left of the repository"


def test_a_hard_linked_pointer_goes_with_its_blob(cache: Cache) -> None:
    pointer = cache.pointer(NEW, FILE)
    pointer.parent.mkdir(parents=True)
    pointer.hardlink_to(cache.blob(NEW, FILE))
    blob = listed(cache)["blob"]
    assert pointer in blob.pointers
    assert Leftovers(cache.root).remove(blob) == 5
    assert not pointer.exists()


def test_only_our_own_unfinished_files_are_listed(cache: Cache) -> None:
    part = put(cache.blob(OLD, FILE).with_name(f"{OTHER}.lilliput.part"))
    put(cache.blob(OLD, FILE).with_name(f"{OTHER}.incomplete"))
    temporary = put(cache.pointer(OLD, FILE).with_name(f".{'c' * 32}.tmp"))
    put(cache.pointer(OLD, FILE).with_name(".hidden.tmp"))
    put(cache.root / "datasets--org--name" / "blobs" / OTHER)
    found = listed(cache)
    assert set(found) == {"blob", "part", "temporary"}
    assert (found["part"].path, found["part"].digest, found["temporary"].path) == (part, OTHER, temporary)
    for kind in ("part", "temporary"):
        assert Leftovers(cache.root).remove(found[kind]) == 5
    assert cache.installed(OLD, FILE) is not None


def test_a_link_that_leads_nowhere_is_listed_where_it_leads_into_the_cache(cache: Cache, tmp_path: Path) -> None:
    cache.blob(OLD, FILE).unlink()
    outside = cache.pointer(OLD, FILE).with_name("outside.gguf")
    outside.symlink_to(tmp_path / "unmounted.gguf")
    (entry,) = Leftovers(cache.root).list()
    assert (entry.kind, entry.path) == ("link", cache.pointer(OLD, FILE))
    assert Leftovers(cache.root).remove(entry) == 0
    assert not os.path.lexists(entry.path)
    assert outside.is_symlink()


def test_folders_that_are_links_are_passed_over(cache: Cache, tmp_path: Path) -> None:
    outside = cache.root / "models--org--name"
    outside.rename(tmp_path / "outside")
    outside.symlink_to(tmp_path / "outside")
    assert Leftovers(cache.root).list() == ()
    outside.unlink()
    outside.mkdir()
    (outside / "blobs").symlink_to(tmp_path / "outside" / "blobs")
    (outside / "snapshots").symlink_to(tmp_path / "outside" / "snapshots")
    assert Leftovers(cache.root).list() == ()
    assert Leftovers(tmp_path / "missing").list() == ()


def test_what_is_at_work_or_has_changed_stays(cache: Cache) -> None:
    leftovers = Leftovers(cache.root)
    blob = listed(cache)["blob"]
    lock = cache.lock(OLD, FILE)
    lock.parent.mkdir(parents=True)
    with filelock.FileLock(lock):
        assert leftovers.remove(blob) is None
    cache.link(NEW, FILE)
    assert leftovers.remove(blob) is None, "somebody links to it now"
    blob = listed(cache)["blob"]
    os.utime(blob.path, (1, 1))
    assert leftovers.remove(blob) is None
    assert cache.installed(NEW, FILE) is not None


def test_a_removal_that_was_cut_short_is_found_again(cache: Cache) -> None:
    cache.pointer(OLD, FILE).unlink()
    blob = listed(cache)["blob"]
    assert blob.pointers == ()
    assert Leftovers(cache.root).remove(blob) == 5


def test_an_installed_file_tells_its_path_in_the_repository(cache: Cache) -> None:
    assert path_in_repository(cache.pointer(OLD, FILE)) == "folder/m.gguf"
    assert path_in_repository(Path("/models/snapshots/m.gguf")) is None
    assert path_in_repository(Path("m.gguf")) is None
