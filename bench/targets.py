"""What is measured: servers on ports of loopback, each with the processes behind it, and the bare loop."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx
import psutil

from bench.exchange import Ask, Round, Scenario
from bench.generator import GeneratorProcess

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 20.0


class Target(Protocol):
    """Something that answers rounds; ``settings`` says how it was started."""

    name: str
    settings: Mapping[str, Any]

    def play(self, clients: list[list[Ask]]) -> Round:
        """One round: what all clients ask, at once."""
        ...

    def processes(self) -> list[psutil.Process]:
        """Its processes on this machine, none if it runs elsewhere."""
        ...


class HttpTarget:
    """A server that speaks OpenAI's dialect; ``pid`` is the head of its processes, None if they are not ours."""

    def __init__(
        self,
        name: str,
        url: str,
        model: str,
        generator: GeneratorProcess,
        settings: Mapping[str, Any],
        pid: int | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.hostname is None or parts.port is None or parts.scheme != "http":
            raise ValueError(f"{url!r} must be like http://host:port")
        self.name = name
        self.url = url
        self.model = model
        self.settings = settings
        self._host, self._port = parts.hostname, parts.port
        self._generator = generator
        self._pid = pid

    def play(self, clients: list[list[Ask]]) -> Round:
        """One round; every body gets the model's name."""
        named = [
            [Ask(a.path, {"model": self.model, **a.body}, a.not_before_s, a.after_chunks, a.continues) for a in asks]
            for asks in clients
        ]
        return self._generator.play(Scenario(self._port, named, self._host))

    def processes(self) -> list[psutil.Process]:
        """The head and all its descendants."""
        if self._pid is None:
            return []
        try:
            head = psutil.Process(self._pid)
            return [head, *head.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


class ChildServer:
    """A peer as a child process: started, waited for, ended by its id."""

    def __init__(self, command: Sequence[str], url: str, log: Path, environment: Mapping[str, str]) -> None:
        self._log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                list(command), env=os.environ | dict(environment), stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        self.pid = self._process.pid
        self._url = url

    def wait(self) -> None:
        """Until it lists its model; RuntimeError with the end of its log when it ends instead or takes too long."""
        until = time.monotonic() + START_TIMEOUT_S
        while not first_model(self._url):
            if self._process.poll() is not None or time.monotonic() > until:
                told = self._log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{self._process.args!r} did not start:\n{told}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Ask it to end, then end it."""
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def first_model(url: str) -> str | None:
    """The first model that a server lists, None while it does not answer."""
    try:
        answer = httpx.get(f"{url}/v1/models", timeout=5, trust_env=False)
        listed = answer.json()["data"] if answer.status_code == 200 else []
    except (httpx.HTTPError, ValueError, KeyError):
        return None
    return str(listed[0]["id"]) if listed else None
