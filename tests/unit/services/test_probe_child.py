"""Children that measure, played by modules of a few lines."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from lilliput.services.probe_child import measure, quiet

Write = Callable[[str], tuple[str, ...]]

SPEAK = 'import sys, time\nprint(\'{"run": "one"}\', flush=True)\n'


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))

    def module(text: str) -> tuple[str, ...]:
        (tmp_path / "played_child.py").write_text(text)
        return ("played_child",)

    return module


async def test_the_lines_of_a_child_are_read(write: Write) -> None:
    child = write("import sys\nprint(sys.stdin.read())\nprint('{\"run\": 1}')\n")
    assert await measure(child, b'{"types": ["F16"]}', 30) == [{"types": ["F16"]}, {"run": 1}]


async def test_a_child_has_the_environment_of_an_engine(write: Write) -> None:
    child = write("import json, os\nprint(json.dumps({'set': os.environ.get('GGML_NO_BACKTRACE')}))\n")
    assert await measure(child, b"", 30) == [{"set": "1"}]


@pytest.mark.parametrize("end", ["print('{\"run\": ', flush=True); sys.exit(3)", "import os; os.abort()", "1 / 0"])
async def test_what_a_crashed_child_has_said_counts(write: Write, end: str) -> None:
    assert await measure(write(f"{SPEAK}{end}\n"), b"", 30) == [{"run": "one"}]


async def test_a_child_that_never_starts_says_nothing() -> None:
    assert await measure(("lilliput.no_such_module",), b"", 30) == []


async def test_a_child_that_takes_too_long_is_ended(write: Write) -> None:
    began = time.monotonic()
    lines = await measure(write(f"{SPEAK}time.sleep(60)\n"), b"", 1.5)
    assert lines in ([{"run": "one"}], [])  # a slow machine may not have come to its first line
    assert time.monotonic() - began < 30


async def test_a_child_gives_way_at_once(write: Write) -> None:
    began = time.monotonic()
    assert await measure(write(f"{SPEAK}time.sleep(60)\n"), b"", 50, lambda: True) is None
    assert time.monotonic() - began < 30


async def test_a_child_ends_with_whoever_asked(write: Write, tmp_path: Path) -> None:
    said = tmp_path / "pid"
    said.touch()
    child = write(f"import os\n{SPEAK}open({str(said)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)\n")
    asked = asyncio.create_task(measure(child, b"", 50))
    async with asyncio.timeout(30):
        while not said.read_text():
            await asyncio.sleep(0.02)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert not psutil.pid_exists(int(said.read_text()))


async def test_quiet_is_a_while_without_anybody_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    answers = [False, True, False, True, False, False, False]
    monkeypatch.setattr(asyncio, "sleep", _at_once)

    def busy() -> bool:
        asked.append(answers[len(asked)])
        return asked[-1]

    await quiet(busy, 0.6)
    assert asked == answers


async def _at_once(_seconds: float) -> None:
    pass
