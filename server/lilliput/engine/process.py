"""A worker as an operating-system process: started, listened to, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections import deque
from collections.abc import Mapping

from lilliput.children import Child, start_child
from lilliput.engine.transport import Endpoint, open_endpoint

WORKER_MODULE = "lilliput.engine.worker"
"""What a worker runs; a stand-in that speaks the same protocol can take its place."""
LOG_LINES = 40
END_TIMEOUT_S = 5.0


class WorkerProcess:
    """One started worker: its socket, its process id, the last lines it printed, and how it ended."""

    def __init__(self, process: Child, connection: socket.socket) -> None:
        self._process = process
        self.connection = connection
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        self._reader = asyncio.create_task(self._read_log())

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def ended(self) -> int | None:
        """Wait for the end; the number of the signal that caused it, else None."""
        code = await self._process.wait()
        await self._reader
        return -code if code < 0 else None

    def kill(self) -> None:
        """End the process, even one that is stopped."""
        self._process.kill()

    async def aclose(self) -> None:
        """End the process (it holds nothing worth a goodbye) and wait until it is gone."""
        self._process.kill()
        await asyncio.wait_for(self.ended(), END_TIMEOUT_S)

    async def _read_log(self) -> None:
        while line := await self._next_line():
            self.log.append(line.decode("utf-8", "replace").rstrip())

    async def _next_line(self) -> bytes:
        """A line of what the process prints, nothing at the end; some files make llama.cpp print endless ones."""
        try:
            return await self._process.output.readline()
        except ValueError:  # longer than the reader's limit, and dropped
            return b"(a line too long to be kept)\n"


async def start_worker(*, inherit: bool = os.name == "posix") -> WorkerProcess:
    """Start a worker and connect to it; ``inherit`` False uses the loopback way."""
    endpoint = open_endpoint(inherit=inherit)
    try:
        process = _spawn(endpoint)
    except BaseException:
        endpoint.close()
        raise
    return WorkerProcess(process, await asyncio.to_thread(endpoint.accept))


class SpareWorker:
    """A worker that starts while it is still being found out what it is to load: half a second earlier.

    Used by one task; ``aclose`` ends a worker that nobody took.
    """

    def __init__(self) -> None:
        self._starting: asyncio.Task[WorkerProcess] | None = None

    def prepare(self) -> None:
        """Begin to start one, unless one is there."""
        if self._starting is None:
            self._starting = asyncio.create_task(start_worker())

    def take(self) -> asyncio.Task[WorkerProcess]:
        """The one that was prepared, or one that starts now; OSError comes of it when it cannot be started."""
        starting, self._starting = self._starting, None
        return starting or asyncio.create_task(start_worker())

    async def aclose(self) -> None:
        """End what was prepared for nothing."""
        starting, self._starting = self._starting, None
        if starting is not None:
            with contextlib.suppress(OSError):
                worker = await starting
                worker.connection.close()
                await worker.aclose()


def _spawn(endpoint: Endpoint) -> Child:
    return start_child(
        WORKER_MODULE,
        "--connect",
        endpoint.argument,
        environment=worker_environment(os.environ),
        data=endpoint.greeting,
        listen="stderr",
        inherited=endpoint.inherited,
    )


def worker_environment(ours: Mapping[str, str]) -> dict[str, str]:
    """The environment of a worker: the daemon's, with what the library needs said before it is loaded."""
    environment = dict(ours)
    if "OMP_WAIT_POLICY" not in ours:
        # Threads wait for each other at the thousand barriers of a token. libgomp lets them spin 300,000 rounds, which
        # starves them all when other programs want the cores; too few rounds make them sleep whenever the daemon takes
        # a core for a moment. Part of a bare loop's speed that a stream reached on two quiet cores, median of 6 rounds:
        # 300,000 rounds 0.94, 30,000 0.93, 1,000 0.83.
        environment.setdefault("GOMP_SPINCOUNT", "30000")
    return environment


def signal_name(number: int) -> str:
    """``SIGSEGV`` for 11; ``signal 99`` for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
