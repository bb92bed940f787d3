"""A real daemon as a subprocess, for functional tests and benchmarks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import httpx

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0


def free_port() -> int:
    """A TCP port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def clean_environment(data_dir: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without settings of lilliput or the Hub, and with ``data_dir``.

    Nothing is measured in the background, which would disturb other tests and benchmarks.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LILLIPUT_", "HF_"))}
    ours = {"LILLIPUT_DATA_DIR": str(data_dir), "HF_HOME": str(data_dir / "hf"), "LILLIPUT_MEASURE": "never"}
    return kept | ours | dict(extra or {})


class DaemonProcess:
    """``python -m lilliput`` on a free port of loopback; a context manager that stops it with SIGTERM."""

    def __init__(
        self,
        data_dir: Path,
        environment: Mapping[str, str] | None = None,
        *,
        arguments: Sequence[str] = (),
        command: Sequence[str] = (sys.executable, "-m", "lilliput"),
    ) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = data_dir / "daemon.log"
        self.started_in_s = 0.0
        self._environment = clean_environment(data_dir, environment)
        self._command = [*command, "--port", str(self.port), *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> DaemonProcess:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """All it has printed."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def start(self) -> None:
        """Start it and wait until it is live; RuntimeError with its log when it ends instead."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() - began > START_TIMEOUT_S:
                raise RuntimeError(f"the daemon did not start:\n{self.log}")
            time.sleep(0.01)
        self.started_in_s = time.monotonic() - began

    def stop(self) -> int:
        """End it as a service manager would; returns its exit status."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health/live", timeout=1, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False
