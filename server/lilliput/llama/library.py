"""The shared library as a whole: its log, its start, and what it was built for."""

from __future__ import annotations

import ctypes
import sys
from collections import deque
from collections.abc import Callable
from functools import cache

from llama_cpp import llama_cpp as c

_LOG_LINES = 200
_DEBUG = 1


class LibraryLog:
    """Keeps the last lines that llama.cpp logs and mirrors warnings and errors to standard error.

    ``on_line``, when set, gets every line but those for debugging.
    """

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=_LOG_LINES)
        self.on_line: Callable[[str], None] | None = None
        self._partial = ""
        self._level = 0
        self._callback = c.llama_log_callback(self._on_text)

    def install(self) -> None:
        """Route the library's log here, for the whole process."""
        c.llama_log_set(self._callback, ctypes.c_void_p(0))

    def _on_text(self, level: int, text: bytes, _data: ctypes.c_void_p) -> None:
        # Level 5 continues the line before it.
        self._level = self._level if level == 5 else level
        self._partial += text.decode("utf-8", "replace")
        *whole, self._partial = self._partial.split("\n")
        for line in whole:
            if line.strip(" ."):
                self._keep(line)
                if self._level in (3, 4):
                    sys.stderr.write(line + "\n")

    def _keep(self, line: str) -> None:
        if self._level != _DEBUG:
            self.lines.append(line)
            if self.on_line is not None:
                self.on_line(line)


@cache
def start_library() -> LibraryLog:
    """Initialise the backends once in this process; returns the log that catches everything said from here on.

    The library keeps a pointer into the log, so the cache is also what keeps it alive as long as the process.
    """
    log = LibraryLog()
    log.install()
    c.llama_backend_init()
    return log


def system_info() -> str:
    """The library's own line about CPU features and backends in use."""
    return bytes(c.llama_print_system_info()).decode("utf-8", "replace").strip()
