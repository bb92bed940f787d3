from __future__ import annotations

import asyncio
import signal
import socket
from typing import cast

from lilliput.children import Child
from lilliput.engine.process import WorkerProcess, signal_name, worker_environment


class Ended:
    """A process that has printed something and was ended by a signal."""

    def __init__(self, printed: bytes) -> None:
        self.output = asyncio.StreamReader(limit=64)
        self.output.feed_data(printed)
        self.output.feed_eof()

    async def wait(self) -> int:
        return -signal.SIGTERM


async def test_a_line_that_is_too_long_does_not_hide_the_end_of_a_worker() -> None:
    ended = Ended(b"one\n" + b"x" * 500 + b"\ntwo\n")
    with socket.socket() as connection:
        worker = WorkerProcess(cast("Child", ended), connection)
        assert await worker.ended() == signal.SIGTERM
    assert (worker.log[0], worker.log[-1]) == ("one", "two")
    assert "(a line too long to be kept)" in worker.log


def test_workers_do_not_start_debuggers_and_spin_only_briefly() -> None:
    environment = worker_environment({"PATH": "/bin"})
    assert environment == {"PATH": "/bin", "GOMP_SPINCOUNT": "30000"}


def test_what_the_user_says_about_waiting_threads_holds() -> None:
    assert worker_environment({"GOMP_SPINCOUNT": "5"})["GOMP_SPINCOUNT"] == "5"
    assert "GOMP_SPINCOUNT" not in worker_environment({"OMP_WAIT_POLICY": "active"})


def test_signals_have_names() -> None:
    assert signal_name(signal.SIGSEGV) == "SIGSEGV"
    assert signal_name(99) == "signal 99"
