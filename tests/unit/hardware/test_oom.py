from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lilliput.hardware import oom_kills


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_the_group_of_the_process_is_asked_first(tmp_path: Path) -> None:
    write(tmp_path / "proc/vmstat", "nr_free_pages 7\noom_kill 12\n")
    assert oom_kills(tmp_path) == 12
    write(tmp_path / "proc/self/cgroup", "0::/a/b\n")
    assert oom_kills(tmp_path) == 12
    write(tmp_path / "sys/fs/cgroup/a/b/memory.events", "low 0\noom 3\noom_kill 2\n")
    assert oom_kills(tmp_path) == 2


@pytest.mark.parametrize("text", ["", "oom_kill\n", "oom_kill x\n", "oom 3\n", "\xff"])
def test_what_cannot_be_read_is_unknown(tmp_path: Path, text: str) -> None:
    assert oom_kills(tmp_path) is None
    write(tmp_path / "proc/vmstat", text)
    assert oom_kills(tmp_path) is None


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
def test_this_machine_counts() -> None:
    assert (oom_kills() or 0) >= 0
