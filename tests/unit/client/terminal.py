"""The real command on a terminal."""

from __future__ import annotations

import os
import pty
import queue
import subprocess
import sys
import threading

from tests.unit.client.stub import command

_TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """The command on a terminal of its own: what it shows is gathered, what a person types is sent."""

    def __init__(self, *arguments: str, env: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *command(*arguments)],
            env=env,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self._pieces: queue.Queue[bytes] = queue.Queue()
        self._shown = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._master, 4096)
            except OSError:
                return
            if not piece:
                return
            self._pieces.put(piece)

    def expect(self, text: str) -> None:
        """Wait until ``text`` has been shown since the last call."""
        if not self._is_shown(text, within_s=30):
            self._process.kill()
            self.end()
            raise AssertionError(f"{text!r} is not in {self._shown.decode(errors='replace')!r}")
        self._shown = self._shown.split(text.encode(), 1)[1]

    def interrupt(self, shows: str) -> None:
        """Press Ctrl-C until ``shows`` is there: Python overlooks one that comes just before it waits for a key."""
        for _ in range(30):
            self.type("\x03")
            if self._is_shown(shows, within_s=1):
                break
        self.expect(shows)

    def _is_shown(self, text: str, within_s: float) -> bool:
        while text.encode() not in self._shown:
            try:
                self._shown += self._pieces.get(timeout=within_s)
            except queue.Empty:
                return False
        return True

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def end(self) -> int:
        """Wait for the command's end and return its exit code."""
        code = self._process.wait(30)
        self._reader.join(30)
        os.close(self._master)
        return code
