"""A daemon for one call: started when none answers, ended with the call."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import typer

from lilliput_client import Client, DaemonUnreachable, LilliputClientError
from lilliput_client.cli.connection import connect
from lilliput_client.cli.output import talk

_START_S = 60.0
_DRAIN_S = 15.0
_ASK_EVERY_S = 0.1
_LOG_LINES = 15
_NEW_GROUP = int(getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0))  # Windows' way to keep Ctrl-C away


@contextmanager
def reach(ctx: typer.Context) -> Iterator[Client]:
    """A client of the daemon that runs, or of one that lives as long as this context.

    Another machine's daemon is never replaced by one here: that it cannot be reached is an error.
    """
    with connect(ctx) as client:
        try:
            client.health()
        except DaemonUnreachable:
            if not client.address.is_loopback:
                raise
        else:
            yield client
            return
    talk("no daemon answers: starting one for this call")
    with _daemon() as url, Client(url) as client:
        yield client


@contextmanager
def _daemon() -> Iterator[str]:
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="lilliput-", ignore_cleanup_errors=True) as folder, _ended_by_signals():
        log = Path(folder) / "daemon.log"
        with log.open("wb") as output:
            child = subprocess.Popen(
                [sys.executable, "-m", "lilliput", "--host", "127.0.0.1", "--port", str(port)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # the terminal's Ctrl-C means the answer, not the daemon
                creationflags=_NEW_GROUP,
            )
        try:
            _wait_until_ready(child, url, log)
            yield url
        except DaemonUnreachable:
            _show_end_of(log)
            raise
        finally:
            _end(child)


def _wait_until_ready(child: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    with Client(url) as client:
        while True:
            code = child.poll()
            if code is not None:
                raise _failed(f"the daemon ended with exit code {code} while starting", log)
            try:
                if client.health() == "ready":
                    return
            except DaemonUnreachable:
                pass
            if time.monotonic() > deadline:
                raise _failed(f"the daemon was not ready after {_START_S:.0f} s", log)
            time.sleep(_ASK_EVERY_S)


def _show_end_of(log: Path) -> None:
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]:
        talk(f"  {line}")


def _failed(message: str, log: Path) -> LilliputClientError:
    _show_end_of(log)
    return LilliputClientError(message, code="daemon-failed", hint="its last words are above; try: lilliput serve")


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(_DRAIN_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            child.kill()
    child.wait()


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let the signals that end this process end it in order, so that the daemon does not stay behind."""

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, leave) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
