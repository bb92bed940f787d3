"""Memory that somebody else takes while models serve: in a control group, so that it is really short there."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.functional.conftest import MODEL, ONE_THREAD, client_of
from tests.support.control_group import MemoryGroup, memory_group
from tests.support.daemon import DaemonProcess
from tests.support.model import smollm2_path
from tests.support.watching import engines, wait_until

from lilliput.units import MIB

pytestmark = pytest.mark.functional

LIMIT = 1800 * MIB
RESERVE = 256 * MIB
SETTINGS = ONE_THREAD | {
    "LILLIPUT_MEMORY_RESERVE": str(RESERVE),
    "LILLIPUT_MEMORY_USE_FRACTION": "1",
    "LILLIPUT_CONTEXT_TOKENS": "4096",
}
WEIGHTS = 100 * MIB
"""What one engine maps of the small model, and a little more."""


@pytest.fixture
def group() -> Iterator[MemoryGroup]:
    with memory_group() as made:
        yield made


def memory(http: httpx.Client) -> dict[str, Any]:
    told: dict[str, Any] = http.get("/lilliput/engines").raise_for_status().json()["memory"]
    return told


def kinds(http: httpx.Client) -> list[tuple[str, str]]:
    return [(step["kind"], step["engine"]) for step in memory(http)["steps"]]


class Answer(threading.Thread):
    """A stream that goes on while memory grows short; ``ended`` is its last line."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self.pieces = 0
        self.ended = ""

    def run(self) -> None:
        body = {"model": MODEL, "prompt": "One, two,", "max_tokens": 800, "stream": True, "ignore_eos": True}
        with httpx.stream("POST", f"{self._url}/v1/completions", json=body, timeout=60, trust_env=False) as answer:
            for line in answer.iter_lines():
                if line:
                    self.pieces += 1
                    self.ended = line


def test_an_idle_engine_gives_its_memory_back_and_what_is_busy_goes_on(tmp_path: Path, group: MemoryGroup) -> None:
    other = tmp_path / "other.gguf"
    shutil.copyfile(smollm2_path(), other)
    group.limit(LIMIT)
    with DaemonProcess(tmp_path / "data", SETTINGS, command=group.command()) as daemon, client_of(daemon) as http:
        http.post(
            "/v1/completions", json={"model": str(other), "prompt": "a " * 400, "max_tokens": 1}
        ).raise_for_status()
        answer = Answer(daemon.url)
        answer.start()
        wait_until(lambda: answer.pieces > 0)
        wait_until(lambda: memory(http)["available_bytes"] is not None)
        calm = memory(http)
        assert (calm["watched"], calm["pressed"], calm["steps"]) == (True, False, [])
        with group.taken(calm["available_bytes"] - 2 * WEIGHTS - RESERVE // 4):
            wait_until(lambda: ("evict", str(other)) in kinds(http), 20)
            pressed = memory(http)
            assert pressed["pressed"]
            assert "are available beside the weights in use, less than 128.0 MiB" in pressed["because"]
            assert kinds(http)[0] == ("drop", str(other))
            assert pressed["steps"][-1]["before_bytes"] > 200 * MIB
            wait_until(lambda: [one["model"] for one in engines(http)] == [MODEL], 10)
            metrics = http.get("/metrics").text
            assert "lilliput_memory_pressed 1.0" in metrics
            assert 'lilliput_memory_steps_total{kind="evict"' in metrics
            answer.join()
        assert (answer.ended, answer.pieces > 800) == ("data: [DONE]", True)
        assert "memory is short" in daemon.log


def test_with_the_watch_off_nothing_is_done(tmp_path: Path) -> None:
    settings = SETTINGS | {"LILLIPUT_MEMORY_WATCH": "off"}
    with DaemonProcess(tmp_path, settings) as daemon, client_of(daemon) as http:
        assert memory(http) == json.loads(
            '{"watched": false, "pressed": false, "because": "", "available_bytes": null, "steps": []}'
        )
        assert "lilliput_memory_pressed" not in http.get("/metrics").text
