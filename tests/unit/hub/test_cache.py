from __future__ import annotations

import errno
import hashlib
import shutil
from pathlib import Path

import pytest

from lilliput.errors import BadName, DiskFull, HubError, StorageError, VariantNotFound
from lilliput.hub import RemoteFile, Repository
from lilliput.hub.cache import Cache
from lilliput.hub.storage import DiskSpace, free_bytes, storage_faults, sync_directory

COMMIT = "1" * 40
CONTENT = b"content"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
FILE = RemoteFile("folder/a.gguf", len(CONTENT), sha256=DIGEST)
COPY = RemoteFile("b.gguf", len(CONTENT), sha256=DIGEST)
REPOSITORY = Repository("org/name", COMMIT, (FILE, COPY))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    cache = Cache(tmp_path / "hub")
    blob = cache.blob(REPOSITORY, FILE)
    blob.parent.mkdir(parents=True)
    blob.write_bytes(CONTENT)
    return cache


def test_values_cannot_hold_what_could_leave_the_cache() -> None:
    with pytest.raises(BadName):
        RemoteFile("../a", 1, sha256=DIGEST)
    with pytest.raises(HubError):
        RemoteFile("a", 1, sha256="../../etc/passwd")
    with pytest.raises(HubError):
        RemoteFile("a", 1, git_sha1="main")
    with pytest.raises(HubError, match="no digest"):
        RemoteFile("a", 1)
    with pytest.raises(HubError):
        RemoteFile("a", -1, sha256=DIGEST)
    with pytest.raises(HubError):
        Repository("org/name", "../main", ())
    with pytest.raises(BadName):
        Repository("../name", COMMIT, ())
    with pytest.raises(BadName):
        Repository("org/name", COMMIT, (), ref="../../x")


def test_a_repository_finds_its_files_by_path() -> None:
    assert REPOSITORY.file("b.gguf") is COPY
    with pytest.raises(VariantNotFound, match=r"org/name has no file c\.gguf"):
        REPOSITORY.file("c.gguf")


def test_the_layout_is_the_one_of_hugging_face(cache: Cache) -> None:
    pointer = cache.link(REPOSITORY, FILE)
    top = cache.root / "models--org--name"
    assert pointer == top / "snapshots" / COMMIT / "folder" / "a.gguf"
    assert pointer.readlink() == Path("../../../blobs") / DIGEST
    assert pointer.read_bytes() == CONTENT
    assert (top / "refs" / "main").read_text() == COMMIT
    assert cache.installed(REPOSITORY, FILE) == pointer


def test_linking_again_changes_nothing_and_leaves_no_other_file(cache: Cache) -> None:
    pointer = cache.link(REPOSITORY, FILE)
    assert cache.link(REPOSITORY, FILE) == pointer
    assert [path.name for path in pointer.parent.iterdir()] == ["a.gguf"]


def test_a_commit_as_reference_is_not_noted_as_a_branch(cache: Cache) -> None:
    cache.link(Repository("org/name", COMMIT, (FILE,), ref=COMMIT), FILE)
    assert not (cache.root / "models--org--name" / "refs").exists()


def test_a_pointer_to_something_else_is_replaced(cache: Cache) -> None:
    pointer = cache.pointer(REPOSITORY, FILE)
    pointer.parent.mkdir(parents=True)
    pointer.write_bytes(b"stale")
    assert cache.link(REPOSITORY, FILE).read_bytes() == CONTENT


def refuse_links(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.EPERM, "not here")

    for name in names:
        monkeypatch.setattr(Path, name, refuse)


def test_without_symlinks_the_pointer_is_a_hard_link(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_links(monkeypatch, "symlink_to")
    pointer = cache.link(REPOSITORY, FILE)
    assert not pointer.is_symlink()
    assert pointer.samefile(cache.blob(REPOSITORY, FILE))


def test_without_any_links_the_pointer_is_a_copy(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_links(monkeypatch, "symlink_to", "hardlink_to")
    pointer = cache.link(REPOSITORY, FILE)
    assert not pointer.is_symlink()
    assert not pointer.samefile(cache.blob(REPOSITORY, FILE))
    assert pointer.read_bytes() == CONTENT


def test_a_pointer_without_a_blob_counts_as_content(cache: Cache) -> None:
    pointer = cache.pointer(REPOSITORY, FILE)
    pointer.parent.mkdir(parents=True)
    cache.blob(REPOSITORY, FILE).rename(pointer)
    assert cache.content(REPOSITORY, FILE) == pointer
    assert cache.link(REPOSITORY, FILE) == pointer
    assert pointer.read_bytes() == CONTENT


def test_content_of_another_size_is_not_content(cache: Cache) -> None:
    cache.blob(REPOSITORY, FILE).write_bytes(b"cut")
    assert cache.content(REPOSITORY, FILE) is None
    with pytest.raises(StorageError, match="vanished"):
        cache.link(REPOSITORY, FILE)


def test_missing_bytes_count_equal_content_once_and_deduct_parts(cache: Cache) -> None:
    other = RemoteFile("c.gguf", 100, sha256="c" * 64)
    twin = RemoteFile("d.gguf", 100, sha256="c" * 64)
    assert cache.missing_bytes(REPOSITORY, (FILE, other, twin)) == 100
    cache.part(REPOSITORY, other).write_bytes(b"x" * 30)
    assert cache.missing_bytes(REPOSITORY, (FILE, other, twin)) == 70


def test_removing_keeps_content_that_another_snapshot_needs(cache: Cache) -> None:
    first, second = cache.link(REPOSITORY, FILE), cache.link(REPOSITORY, COPY)
    assert cache.remove(first) == 0
    assert second.read_bytes() == CONTENT
    assert not first.parent.exists()
    assert cache.remove(second) == len(CONTENT)
    assert not (cache.root / "models--org--name").exists()


def test_removing_the_last_file_keeps_a_part_and_drops_the_branch(cache: Cache) -> None:
    other = RemoteFile("c.gguf", 100, sha256="c" * 64)
    cache.part(REPOSITORY, other).write_bytes(b"x")
    cache.remove(cache.link(REPOSITORY, FILE))
    assert cache.part(REPOSITORY, other).exists()
    assert not (cache.root / "models--org--name" / "refs" / "main").exists()


def test_removing_a_plain_file_in_a_snapshot_frees_it(cache: Cache) -> None:
    pointer = cache.pointer(REPOSITORY, FILE)
    pointer.parent.mkdir(parents=True)
    cache.blob(REPOSITORY, FILE).rename(pointer)
    assert cache.remove(pointer) == len(CONTENT)


def test_removing_leaves_alone_what_is_no_pointer_of_the_cache(cache: Cache, tmp_path: Path) -> None:
    own = tmp_path / "own.gguf"
    own.write_bytes(b"mine")
    blob = cache.blob(REPOSITORY, FILE)
    sneaky = cache.root / "models--org--name" / "snapshots" / ".." / ".." / ".." / "own.gguf"
    assert [cache.remove(path) for path in (own, blob, sneaky)] == [0, 0, 0]
    assert own.exists()
    assert blob.exists()


def test_a_link_out_of_the_cache_does_not_lead_a_removal_there(cache: Cache, tmp_path: Path) -> None:
    own = tmp_path / "own.gguf"
    own.write_bytes(b"mine")
    pointer = cache.pointer(REPOSITORY, FILE)
    pointer.parent.mkdir(parents=True)
    pointer.symlink_to(own)
    assert cache.remove(pointer) == 0
    assert own.exists()


def test_faults_of_the_disk_become_errors_with_hints(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match="5 B more are needed"), storage_faults(tmp_path / "x", lambda: 5):
        raise OSError(errno.ENOSPC, "no space")
    with pytest.raises(StorageError, match="Read-only"), storage_faults(tmp_path / "x"):
        raise OSError(errno.EROFS, "Read-only file system")


def test_free_space_is_that_of_the_nearest_folder_that_exists(tmp_path: Path) -> None:
    assert abs(free_bytes(tmp_path / "not" / "yet") - shutil.disk_usage(tmp_path).free) < 1 << 30


def test_running_downloads_do_not_promise_themselves_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lilliput.hub.storage.free_bytes", lambda _path: 100)
    space = DiskSpace(tmp_path, reserve_bytes=10)
    space.check(90)
    with pytest.raises(DiskFull):
        space.check(91)
    with space.claimed(lambda: 60):
        space.check(30)
        with pytest.raises(DiskFull, match="101 B more are needed, 100 B are free"):
            space.check(31)
    space.check(90)


def test_syncing_a_directory_that_is_gone_is_no_fault(tmp_path: Path) -> None:
    sync_directory(tmp_path / "gone")
    sync_directory(tmp_path)
    assert list(tmp_path.iterdir()) == []
