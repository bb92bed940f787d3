"""Child processes: Python modules that the daemon gives something to read and listens to."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Collection, Mapping
from typing import Any, Literal

_READ_BYTES = 1 << 16
_PR_SET_PDEATHSIG = 1
_HUMBLE_NICE = 5
"""A third of a normal process's share of a core that both want, on Linux: plans beside answers take a little longer."""


class Child:
    """One started process: ``output`` is what it prints, ``wait`` tells how it ended. Used from one event loop.

    A thread of its own writes, reads and waits, so that it is the same on every system and with every event loop; the
    process is started by ``subprocess``, which shares memory with it until it runs its program (uvloop would copy the
    page tables of the daemon, 20 ms in which nothing else is served).
    """

    def __init__(self, process: subprocess.Popen[bytes], data: bytes) -> None:
        self._process = process
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        self.output = asyncio.StreamReader()
        threading.Thread(target=self._attend, args=(data,), name=f"child-{process.pid}", daemon=True).start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, minus the number of a signal that ended it; None while it runs."""
        return self._ended.result() if self._ended.done() else None

    async def wait(self) -> int:
        """Wait for its end; the exit status as in ``returncode``."""
        return await asyncio.shield(self._ended)

    def kill(self) -> None:
        """End it; nothing to do when it has ended."""
        self._process.kill()

    async def aclose(self) -> None:
        """End it, and wait until it is gone."""
        self.kill()
        await self.wait()

    def _attend(self, data: bytes) -> None:
        process = self._process
        if process.stdin is not None:
            with contextlib.suppress(OSError):  # it ended before it had read all
                process.stdin.write(data)
            with contextlib.suppress(OSError):
                process.stdin.close()
        stream = process.stdout or process.stderr
        assert stream is not None
        with contextlib.suppress(RuntimeError):  # the loop has ended before the child: nobody listens any more
            while piece := os.read(stream.fileno(), _READ_BYTES):  # as soon as there is something
                self._loop.call_soon_threadsafe(self.output.feed_data, piece)
            self._loop.call_soon_threadsafe(self.output.feed_eof)
        stream.close()
        code = process.wait()
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._ended.set_result, code)


def end_with_parent() -> None:
    """Called by a child: ask Linux to end this process when the daemon dies, killed or not.

    Elsewhere workers notice their closed socket, and others end when their work is done.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def start_child(
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    data: bytes = b"",
    listen: Literal["stdout", "stderr"] = "stdout",
    inherited: Collection[int] = (),
    humble: bool = False,
) -> Child:
    """Start ``python -m`` with these arguments, with ``data`` on its standard input and one of its outputs heard.

    ``environment`` is this process's own by default; ggml is told not to start a debugger on a child that aborts.
    ``inherited`` are file descriptors that it gets (POSIX). One that is ``humble`` runs at a low priority: where cores
    are scarce it takes none from the daemon's threads nor from engines that answer. Raises OSError when it cannot be
    started.
    """
    heard, unheard = subprocess.PIPE, subprocess.DEVNULL
    more: dict[str, Any] = {"pass_fds": inherited} if inherited else {}
    if humble and sys.platform == "win32":
        more["creationflags"] = subprocess.BELOW_NORMAL_PRIORITY_CLASS
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        stdin=subprocess.PIPE if data else subprocess.DEVNULL,
        stdout=heard if listen == "stdout" else unheard,
        stderr=heard if listen == "stderr" else unheard,
        env={**(os.environ if environment is None else environment), "GGML_NO_BACKTRACE": "1"},
        **more,
    )
    if humble and sys.platform != "win32":
        with contextlib.suppress(OSError):  # it has ended already
            os.setpriority(os.PRIO_PROCESS, process.pid, _HUMBLE_NICE)
    return Child(process, data)
