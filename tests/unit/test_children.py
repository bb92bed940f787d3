"""Real children: what they read and print, and how they end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from lilliput.children import Child, start_child

END = os.linesep.encode()
ECHO = "import sys; sys.stdout.write(sys.stdin.read()[::-1]); sys.stdout.flush(); sys.exit(3)"


def started(tmp_path: Path, code: str, **how: Any) -> Child:
    """A child that runs ``code`` as its module."""
    (tmp_path / "child_code.py").write_text(code, "utf-8")
    return start_child("child_code", environment=os.environ | {"PYTHONPATH": str(tmp_path)}, **how)


async def test_a_child_reads_what_it_is_given_and_is_heard_to_its_end(tmp_path: Path) -> None:
    child = started(tmp_path, ECHO, data=b"abc" * 100_000)
    assert await child.output.read() == b"cba" * 100_000
    assert await child.wait() == 3
    assert child.returncode == 3
    await child.aclose()


async def test_lines_come_as_they_are_printed(tmp_path: Path) -> None:
    child = started(tmp_path, "import sys, time\nsys.stderr.write('one\\n')\ntime.sleep(60)", listen="stderr")
    assert await asyncio.wait_for(child.output.readline(), 30) == b"one" + END
    await asyncio.wait_for(child.aclose(), 10)
    assert child.returncode == await child.wait()
    assert os.name == "nt" or child.returncode == -signal.SIGKILL
    child.kill()  # nothing to do any more
    assert not psutil.pid_exists(child.pid)


async def test_one_that_reads_nothing_is_no_error(tmp_path: Path) -> None:
    child = started(tmp_path, "print('done')", data=b"x" * 1_000_000)
    assert (await child.output.read()).split() == [b"done"]
    assert await child.wait() == 0


async def test_one_that_aborts_starts_no_debugger(tmp_path: Path) -> None:
    child = started(tmp_path, "import os\nprint(os.environ['GGML_NO_BACKTRACE'])")
    assert (await child.output.read()).split() == [b"1"]


async def test_several_are_told_apart(tmp_path: Path) -> None:
    children = [started(tmp_path, "print(1)") for _ in range(3)]
    assert [await child.output.read() for child in children] == [b"1" + END] * 3
    assert [await child.wait() for child in children] == [0, 0, 0]


async def test_a_humble_child_lets_others_go_first(tmp_path: Path) -> None:
    asked = "import sys\nimport psutil\nsys.stdin.read()\nprint(int(psutil.Process().nice()))"
    usual, humble = started(tmp_path, asked, data=b"x"), started(tmp_path, asked, data=b"x", humble=True)
    priorities = [int(await child.output.read()) for child in (usual, humble)]
    assert priorities[0] == psutil.Process().nice()
    if os.name == "posix":
        assert priorities[1] == max(priorities[0], 5)
    else:
        assert priorities[1] != priorities[0]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such wish")
def test_a_child_that_asks_for_it_ends_with_its_parent(tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text(
        "import time\nfrom lilliput.children import end_with_parent\nend_with_parent()\n"
        "print('up', flush=True)\ntime.sleep(60)",
        "utf-8",
    )
    parent = "import subprocess, sys, time\nchild = subprocess.Popen([sys.executable, 'child.py'])\n"
    parent += "print(child.pid, flush=True)\n"
    with subprocess.Popen(
        [sys.executable, "-c", parent + "time.sleep(60)"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as started_parent:
        assert started_parent.stdout is not None
        told = {started_parent.stdout.readline().strip(), started_parent.stdout.readline().strip()}
        pid = int((told - {"up"}).pop())
        started_parent.kill()
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=10)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
