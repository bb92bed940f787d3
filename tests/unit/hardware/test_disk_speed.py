from __future__ import annotations

import os
from pathlib import Path

import pytest

from lilliput.hardware import DiskSpeed, measure_disk
from lilliput.hardware.disk_speed import BLOCK_BYTES


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(5 * BLOCK_BYTES + 17))
    return path


def test_whole_blocks_of_the_second_half_are_read(file: Path) -> None:
    found = measure_disk(file)
    assert found is not None
    assert found.read_bytes == 3 * BLOCK_BYTES
    assert found.bytes_s == found.read_bytes / found.took_s > 0


def test_reading_ends_with_the_first_block_beyond_the_time(file: Path) -> None:
    found = measure_disk(file, most_s=0)
    assert found is not None
    assert found.read_bytes == BLOCK_BYTES


def test_no_more_is_read_than_allowed(file: Path) -> None:
    found = measure_disk(file, most_bytes=2 * BLOCK_BYTES)
    assert found is not None
    assert found.read_bytes == 2 * BLOCK_BYTES


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system drops nothing from its cache")
def test_where_direct_reads_are_refused_the_part_is_dropped_from_the_cache(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "O_DIRECT", 0, raising=False)
    found = measure_disk(file)
    assert found is not None
    assert (found.way, found.read_bytes) == ("dropped", 3 * BLOCK_BYTES)


def test_where_the_cache_cannot_be_avoided_nothing_is_measured(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "preadv")
    assert measure_disk(file) is None


def test_a_small_file_tells_nothing_and_a_missing_one_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"x")
    assert measure_disk(tmp_path / "small") is None
    with pytest.raises(FileNotFoundError):
        measure_disk(tmp_path / "gone")


def test_a_rate_is_never_a_division_by_zero() -> None:
    assert DiskSpeed(5, 0.0, "direct").bytes_s == 5e9
