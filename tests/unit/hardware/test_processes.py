from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from lilliput.hardware import private_bytes, resident_bytes
from lilliput.units import MIB

HOLD = """
import mmap, sys
private = bytearray(b"x") * int(sys.argv[1])
with open(sys.argv[2], "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    touched = sum(mapped[at] for at in range(0, len(mapped), mmap.PAGESIZE))
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems do not tell shared pages apart")
def test_a_mapped_file_is_resident_but_not_private(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(mmap.PAGESIZE) * (64 * MIB // mmap.PAGESIZE))
    command = [sys.executable, "-c", HOLD, str(32 * MIB), str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        private, resident = private_bytes(child.pid), resident_bytes(child.pid)
        child.communicate("")
    assert 32 * MIB < private < 60 * MIB
    assert resident is not None
    assert resident - private >= 64 * MIB
    assert (private_bytes(child.pid), resident_bytes(child.pid)) == (0, None)


def test_where_shared_pages_are_not_told_apart_nothing_counts_as_private(monkeypatch: pytest.MonkeyPatch) -> None:
    class Process:
        def __init__(self, _pid: int) -> None:
            pass

        def memory_info(self) -> SimpleNamespace:
            return SimpleNamespace(rss=100 * MIB)

    monkeypatch.setattr(psutil, "Process", Process)
    assert private_bytes(1) == 0
    assert resident_bytes(1) == 100 * MIB
