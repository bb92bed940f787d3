"""The data directory: what is listed of it, and that no link is followed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lilliput.errors import StorageError
from lilliput.services.own_files import OwnFiles


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"12345")
    return path


def listed(own: OwnFiles) -> set[tuple[str, str]]:
    return {(found.kind, found.path.name) for found in own.list()}


def test_only_kinds_that_lilliput_writes_are_listed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("lilliput.db", "daemon.lock", "families.toml", "x.state", "x.part", "prefixes/x.state", "a/notes.txt"):
        put(data / name)
    for name in ("m.gguf", "a/b/N.GGUF", "prefixes/k/s.state", "prefixes/k/s.part", "prefixes/k/other"):
        put(data / name)
    put(data / "hf" / "hub" / "m.gguf")
    own = OwnFiles(data, [data / "hf" / "hub"])
    assert listed(own) == {("model", "m.gguf"), ("model", "N.GGUF"), ("prefix", "s.state"), ("temporary", "s.part")}


def test_links_are_never_followed_nor_listed_where_they_lead_out(tmp_path: Path) -> None:
    data, outside = tmp_path / "data", tmp_path / "outside"
    put(outside / "k" / "s.state")
    put(outside / "m.gguf")
    data.mkdir()
    (data / "models").symlink_to(outside)
    (data / "prefixes").symlink_to(outside)
    (data / "m.gguf").symlink_to(outside / "m.gguf")
    (data / "lost.gguf").symlink_to(outside / "unmounted.gguf")
    (data / "up.gguf").symlink_to("../outside/unmounted.gguf")
    (data / "broken.gguf").symlink_to("gone.gguf")
    assert listed(OwnFiles(data)) == {("link", "broken.gguf")}


def test_a_data_directory_that_is_a_link_itself_is_the_users_own_choice(tmp_path: Path) -> None:
    put(tmp_path / "disk" / "m.gguf")
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    own = OwnFiles(tmp_path / "data")
    (found,) = own.list()
    assert own.remove(found) == 5
    assert not (tmp_path / "disk" / "m.gguf").exists()


def test_a_file_that_changed_or_whose_folder_became_a_link_stays(tmp_path: Path) -> None:
    path = put(tmp_path / "data" / "a" / "m.gguf")
    own = OwnFiles(tmp_path / "data")
    (found,) = own.list()
    os.utime(path, (1, 1))
    assert own.remove(found) is None
    (found,) = own.list()
    (tmp_path / "data" / "a").rename(tmp_path / "elsewhere")
    (tmp_path / "data" / "a").symlink_to(tmp_path / "elsewhere")
    assert own.remove(found) is None
    assert (tmp_path / "elsewhere" / "m.gguf").is_file()
    (tmp_path / "elsewhere" / "m.gguf").unlink()
    assert own.remove(found) is None


def test_the_folder_of_the_last_state_goes_with_it(tmp_path: Path) -> None:
    first, second = put(tmp_path / "prefixes" / "k" / "1.state"), put(tmp_path / "prefixes" / "k" / "2.state")
    own = OwnFiles(tmp_path)
    one, two = own.list()
    assert own.remove(one) == 5
    assert (first.exists(), second.exists()) == (False, True)
    assert own.remove(two) == 5
    assert list((tmp_path / "prefixes").iterdir()) == []


def test_a_hard_linked_file_frees_nothing(tmp_path: Path) -> None:
    path = put(tmp_path / "data" / "m.gguf")
    (tmp_path / "other.gguf").hardlink_to(path)
    (found,) = OwnFiles(tmp_path / "data").list()
    assert found.size_bytes == 0


def test_a_directory_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot read"):
        OwnFiles(tmp_path / "missing").list()
