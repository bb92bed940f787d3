from __future__ import annotations

import os
from pathlib import Path

import pytest

from lilliput.engine import process
from lilliput.engine.process import SpareWorker, WorkerProcess


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_worker_is_started_ahead_and_taken_once() -> None:
    spare = SpareWorker()
    spare.prepare()
    spare.prepare()
    first = await spare.take()
    second = await spare.take()
    assert first.pid != second.pid
    await spare.aclose()
    assert alive(first.pid)
    for worker in (first, second):
        worker.connection.close()
        await worker.aclose()


async def test_a_worker_that_nobody_took_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[WorkerProcess] = []
    start = process.start_worker

    async def noted() -> WorkerProcess:
        started.append(await start())
        return started[-1]

    monkeypatch.setattr(process, "start_worker", noted)
    spare = SpareWorker()
    spare.prepare()
    await spare.aclose()
    (worker,) = started
    assert not alive(worker.pid)
    await spare.aclose()


async def test_a_worker_that_cannot_be_started_fails_who_takes_it_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "nothing"))
    spare = SpareWorker()
    spare.prepare()
    with pytest.raises(FileNotFoundError):
        await spare.take()
    spare.prepare()
    await spare.aclose()
