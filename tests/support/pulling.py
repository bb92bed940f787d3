"""Pulls through a running daemon: its SDK, its command line, and what its Hub saw."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tests.support.daemon import DaemonProcess, clean_environment
from tests.support.hub import HubServer, LoggedRequest

from lilliput_client import Client, Job, Options

CLI = Path(sys.executable).with_name("lilliput")
TIMEOUT_S = 90.0
QUICK = {"LILLIPUT_CONTEXT_TOKENS": "2048", "LILLIPUT_SLOTS": "2", "LILLIPUT_THREADS": "1"}
"""Settings that make engines load fast, need little and leave a core to others."""


def pull(daemon: DaemonProcess, model: str, **options: Any) -> list[Job]:
    """Pull to the end, which may be a failure; all snapshots that came."""
    with Client(daemon.url) as client:
        return list(client.pull(model, **options))


def pull_until(daemon: DaemonProcess, model: str, reached: Callable[[Job], bool]) -> Job:
    """Start a pull and come back, leaving it running, at the first snapshot that has ``reached``."""
    with Client(daemon.url) as client, closing(client.pull(model)) as snapshots:
        for job in snapshots:
            if reached(job):
                return job
    raise AssertionError(f"the pull ended before: {job}")


def phases(snapshots: list[Job]) -> list[str]:
    """The phases in their order, without repetitions."""
    seen = [job.phase for job in snapshots if job.phase is not None]
    return [phase for index, phase in enumerate(seen) if index == 0 or seen[index - 1] != phase]


def installed(daemon: DaemonProcess) -> set[str]:
    """The names of the installed models, without the embedded one."""
    with Client(daemon.url) as client:
        return {model.name for model in client.models() if model.source == "hub"}


@contextmanager
def limited(directory: Path, hub: HubServer, limit_bytes: int, *, keep: bool = False) -> Iterator[DaemonProcess]:
    """A daemon of its own whose models may use so much memory; with ``keep`` its files stay for the next one."""
    settings = hub.environment(directory / "hf") | QUICK | {"LILLIPUT_MEMORY_LIMIT": str(limit_bytes)}
    with DaemonProcess(directory, settings) as daemon:
        yield daemon
    if not keep:
        shutil.rmtree(directory / "hf", ignore_errors=True)


def needs(daemon: DaemonProcess, hub: HubServer, repo: str, **wanted: Any) -> dict[str, int]:
    """What each variant of a repository needs, in bytes, as planned for ``wanted``; what this fetched is forgotten."""
    with Client(daemon.url) as client:
        found = {variant.name: variant.total_bytes or 0 for variant in client.plan(repo, **wanted).variants}
    hub.reset()
    return found


QUESTION = "Paris is the capital of which country?"


def ask(daemon: DaemonProcess, model: str) -> str:
    """The model's answer to a question whose answer everybody knows, at temperature 0."""
    messages = [{"role": "user", "content": QUESTION}]
    with Client(daemon.url) as client:
        return client.chat(model, messages, Options(temperature=0.0, max_tokens=24)).text


def start_cli(daemon: DaemonProcess, *arguments: str) -> subprocess.Popen[str]:
    """The real command against ``daemon``, its outputs in pipes."""
    variables = {"LILLIPUT_HOST": "127.0.0.1", "LILLIPUT_PORT": str(daemon.port), "PYTHONUNBUFFERED": "1"}
    environment = clean_environment(daemon.data_dir / "client", variables)
    pipes: Mapping[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([str(CLI), *arguments], env=environment, text=True, **pipes)


def run_cli(daemon: DaemonProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the real command against ``daemon`` to its end."""
    with start_cli(daemon, *arguments) as process:
        output, said = process.communicate(timeout=TIMEOUT_S)
    return subprocess.CompletedProcess(arguments, process.returncode, output, said)


def data_requests(hub: HubServer) -> list[LoggedRequest]:
    """Requests for a file to its end; those for headers name the last byte they want."""
    gets = [request for request in hub.log("cdn") if request.method == "GET"]
    return [request for request in gets if request.range is None or request.range.endswith("-")]


def header_bytes(hub: HubServer) -> int:
    """What was sent of files to those who wanted only their headers."""
    return sum(request.sent_bytes for request in hub.log("cdn")) - sum(one.sent_bytes for one in data_requests(hub))


def trouble_for_data(hub: HubServer, daemon: DaemonProcess, repo: str, **fault: Any) -> None:
    """Make the next request for a file's data fail, not the ones for its header: those are done and remembered."""
    with Client(daemon.url) as client:
        client.plan(repo)
    hub.reset()
    hub.fault("GET /cdn/.*", **fault)


def eventually(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Wait until ``condition`` holds."""
    ends_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends_at, "it did not happen in time"
        time.sleep(0.02)
