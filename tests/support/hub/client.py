"""Start, steer and question a test Hub from synchronous or asynchronous tests."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from tests.support.hub.config import RepositoryConfig, ServerConfig

_ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One request the server saw; header names are lower case, ``sent_bytes`` is what was sent of the body so far."""

    origin: str
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    at_s: float
    status: int | None
    sent_bytes: int

    @property
    def range(self) -> str | None:
        """The ``Range`` header."""
        return self.headers.get("range")

    @property
    def token(self) -> str | None:
        """The ``Authorization`` header without its scheme."""
        value = self.headers.get("authorization")
        return None if value is None else value.removeprefix("Bearer ")


class HubServer:
    """A Hub-protocol server in a child process: a context manager, or ``start`` and ``stop``."""

    def __init__(self, repositories: Mapping[str, RepositoryConfig] | None = None, **settings: Any) -> None:
        self._config = ServerConfig(repositories=repositories or {}, **settings)
        self._process: subprocess.Popen[str] | None = None
        self._client = httpx.Client(trust_env=False, timeout=30)
        self._ports: dict[str, int] = {}

    @property
    def url(self) -> str:
        """The Hub's origin: what HF_ENDPOINT is set to."""
        return f"http://127.0.0.1:{self._ports['hub']}"

    @property
    def cdn_url(self) -> str:
        """The CDN's origin."""
        return f"http://127.0.0.1:{self._ports['cdn']}"

    def environment(self, home: Path) -> dict[str, str]:
        """Variables that point huggingface_hub at this server and at a cache below ``home``."""
        return {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}

    def start(self) -> Self:
        """Start the child and wait until both ports answer; RuntimeError if it ends instead."""
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder) / "hub.json"
            self._config.dump(config)
            command = [sys.executable, "-m", "tests.support.hub", "--until-stdin-closes", "--config", str(config)]
            self._process = subprocess.Popen(
                command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            assert self._process.stdout is not None
            line = self._process.stdout.readline()
        if not line:
            self.stop()
            raise RuntimeError("the test Hub did not start")
        self._ports = json.loads(line)
        return self

    def stop(self) -> None:
        """End the child at once."""
        self._client.close()
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def add(self, name: str, repository: RepositoryConfig) -> str:
        """Serve one more repository, or another state of one; its revision."""
        revision: str = self._post("/_test/repositories", {name: asdict(repository)})[name]
        return revision

    def fault(self, match: str, **fields: Any) -> None:
        """Make the next request whose ``"METHOD path"`` matches fail; fields are those of ``faults.Fault``."""
        self._post("/_test/fault", {"match": match, **fields})

    def reset(self) -> None:
        """Forget faults and log."""
        self._post("/_test/reset", {})

    def log(self, match: str | None = None) -> list[LoggedRequest]:
        """Requests since the last reset; with ``match``, those on whose path or origin it occurs."""
        answer = self._client.get(self.url + "/_test/log")
        answer.raise_for_status()
        requests = [LoggedRequest(**entry) for entry in answer.json()]
        return [request for request in requests if match is None or match == request.origin or match in request.path]

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        answer = self._client.post(self.url + path, json=body)
        answer.raise_for_status()
        return answer.json()
