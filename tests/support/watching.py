"""Looking at a running daemon from outside: what its engines do, and whether it lives."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import httpx

POLL_S = 0.005


def wait_until(condition: Callable[[], bool], within_s: float = 30.0) -> float:
    """Seconds until ``condition`` held; AssertionError when it does not hold ``within_s``."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within_s, f"did not happen within {within_s} s"
        time.sleep(POLL_S)
    return time.monotonic() - began


def engines(http: httpx.Client) -> list[dict[str, Any]]:
    """The engines of a daemon, as its own dialect tells them."""
    told: list[dict[str, Any]] = http.get("/lilliput/engines").raise_for_status().json()["engines"]
    return told


def active(http: httpx.Client) -> int:
    """Sequences that run now, in all engines."""
    return sum(engine["active"] for engine in engines(http))


class Repeated(ABC):
    """Runs in a thread while the block does, until ``_over`` is set."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    @abstractmethod
    def _run(self) -> None:
        """What the thread does."""


class _Beat(Repeated):
    """Looks at a daemon again and again."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=10, trust_env=False) as http:
            while not self._over.wait(0.02):
                self._look(http)

    @abstractmethod
    def _look(self, http: httpx.Client) -> None:
        """One look."""


class Pulse(_Beat):
    """Asks /health/live; keeps each status and how long the slowest answer took."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.statuses: list[int | str] = []
        self.longest_s = 0.0

    def _look(self, http: httpx.Client) -> None:
        began = time.monotonic()
        try:
            self.statuses.append(http.get("/health/live").status_code)
        except httpx.TransportError as error:
            self.statuses.append(repr(error))
        self.longest_s = max(self.longest_s, time.monotonic() - began)


class Watch(_Beat):
    """Keeps the largest number of sequences that were active together."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.most_active = 0

    def _look(self, http: httpx.Client) -> None:
        self.most_active = max(self.most_active, active(http))
