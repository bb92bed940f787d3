"""A control group of a test's own: what is in it may have so much memory, and no more."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ENTER = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
HOG = "import sys, time; taken = b'x' * int(sys.argv[1]); print('taken', flush=True); time.sleep(3600)"


class MemoryGroup:
    """A control group for memory, version 1 or 2."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def limit(self, size_bytes: int) -> None:
        version_1 = self.folder / "memory.limit_in_bytes"
        (version_1 if version_1.exists() else self.folder / "memory.max").write_text(str(size_bytes))

    def command(self, program: Sequence[str] = (sys.executable, "-m", "lilliput")) -> tuple[str, ...]:
        """What starts a program, by default a daemon, inside the group."""
        return ("sh", "-c", ENTER, str(self.folder), *program)

    @contextlib.contextmanager
    def taken(self, size_bytes: int) -> Iterator[None]:
        """Somebody else in the group holds so much memory while the block lasts."""
        command = self.command((sys.executable, "-c", HOG, str(size_bytes)))
        with subprocess.Popen(command, stdout=subprocess.PIPE) as hog:
            try:
                assert hog.stdout is not None
                assert hog.stdout.readline().split() == [b"taken"]
                yield
            finally:
                hog.kill()


@contextlib.contextmanager
def memory_group() -> Iterator[MemoryGroup]:
    """A new group; the test is skipped where none can be made."""
    if sys.platform != "linux":
        pytest.skip("control groups are Linux's")
    for parent in _own_groups():
        folder = parent / f"lilliput-test-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        if any((folder / name).exists() for name in ("memory.limit_in_bytes", "memory.max")):
            yield MemoryGroup(folder)
            _remove(folder)
            return
        folder.rmdir()
    pytest.skip("no control group can be made here; a fake one is tested in tests/unit")


def _own_groups() -> Iterator[Path]:
    """Where a group for this process's memory may be made, by version."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            yield Path("/sys/fs/cgroup/memory") / path.lstrip("/")
        elif not controllers:
            yield Path("/sys/fs/cgroup") / path.lstrip("/")


def _remove(folder: Path) -> None:
    """The kernel lets a group go a moment after its last process has ended."""
    for _ in range(100):
        try:
            folder.rmdir()
        except OSError:
            time.sleep(0.05)
        else:
            return
    folder.rmdir()
