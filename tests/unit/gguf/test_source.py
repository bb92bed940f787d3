from __future__ import annotations

import os
from pathlib import Path

import pytest

from lilliput.errors import BadFile, NotFound, StorageError
from lilliput.gguf import BytesSource, FileSource


def test_a_file_is_read_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"0123456789")
    with FileSource(path) as source:
        assert source.size_bytes == 10
        assert source.read(3, 4) == b"3456"
        assert source.read(0, 2) == b"01"
        assert source.read(8, 100) == b"89"
        assert source.read(50, 5) == b""
    with pytest.raises(ValueError, match="inside its context"):
        source.read(0, 1)


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"there is no file .*gone\.gguf"), FileSource(tmp_path / "gone.gguf"):
        pass


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="is not a regular file"), FileSource(tmp_path):
        pass


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(BadFile, match="is not a regular file"), FileSource(pipe):
        pass


def test_a_path_the_system_refuses_is_a_storage_error() -> None:
    with pytest.raises(StorageError), FileSource(Path("a" * 5000)):
        pass
    with pytest.raises((StorageError, NotFound)), FileSource(Path("nul\0byte")):
        pass


def test_bytes_say_whether_they_are_all() -> None:
    assert BytesSource(b"abc").size_bytes == 3
    assert BytesSource(b"abc", complete=False).size_bytes is None
    assert BytesSource(b"abc").read(1, 9) == b"bc"
