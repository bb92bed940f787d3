"""Memory that somebody else takes while one busy model serves: it steps down between requests, and nobody fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.functional.conftest import MODEL, ONE_THREAD, client_of
from tests.functional.test_serve_pressure import LIMIT, kinds, memory
from tests.support.control_group import MemoryGroup, memory_group
from tests.support.daemon import DaemonProcess
from tests.support.watching import engines, wait_until

from lilliput.units import MIB

RESERVE = 96 * MIB
"""So little that an engine with less fits beside it, when the one that is there has ended."""

SETTINGS = ONE_THREAD | {
    "LILLIPUT_MEMORY_RESERVE": str(RESERVE),
    "LILLIPUT_MEMORY_USE_FRACTION": "1",
    "LILLIPUT_CONTEXT_TOKENS": "16384",
    "LILLIPUT_SLOTS": "2",
}


@pytest.fixture
def group() -> Iterator[MemoryGroup]:
    with memory_group() as made:
        yield made


class Clients:
    """Two who ask again and again, so that the engine is never idle for long."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._over = threading.Event()
        self.statuses: list[int] = []
        self.degraded: list[str] = []
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(2)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        with httpx.Client(base_url=self._url, timeout=120, trust_env=False) as http:
            while not self._over.is_set():
                body = {"model": MODEL, "prompt": f"{number} and", "max_tokens": 40, "ignore_eos": True}
                answer = http.post("/v1/completions", json=body)
                self.statuses.append(answer.status_code)
                self.degraded.append(answer.headers.get("x-lilliput-degraded", ""))


def test_a_busy_engine_steps_down_and_every_request_is_answered(tmp_path: Path, group: MemoryGroup) -> None:
    group.limit(LIMIT)
    with DaemonProcess(tmp_path, SETTINGS, command=group.command()) as daemon, client_of(daemon) as http:
        http.post("/lilliput/engines", json={"model": MODEL}).raise_for_status()
        (before,) = engines(http)
        with Clients(daemon.url) as clients:
            wait_until(lambda: len(clients.statuses) > 2)
            size = memory(http)["available_bytes"] - 100 * MIB - RESERVE // 4
            with group.taken(size):
                wait_until(lambda: ("step-down", MODEL) in kinds(http), 40)
                wait_until(lambda: bool(clients.degraded[-1]), 40)
                (after,) = [one for one in engines(http) if one["state"] == "ready"]
                assert after["context_tokens"] < before["context_tokens"] or after["settings"] != before["settings"]
                answered = len(clients.statuses)
                wait_until(lambda: len(clients.statuses) > answered + 10, 60)
                assert after["pid"] != before["pid"]
                assert "are available beside the weights in use" in after["degraded"][0]
                steps = len(kinds(http))
                time.sleep(20)
                assert len(kinds(http)) <= steps + 2  # it does not flap
        assert set(clients.statuses) == {200}
