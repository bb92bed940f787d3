"""Faults that tests ask for, and the log of requests they assert on."""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class Fault:
    """What happens to ``count`` requests (None: all) whose ``"METHOD path"`` matches, after ``skip`` of them."""

    match: str
    count: int | None = 1
    skip: int = 0
    status: int | None = None  # answer this instead
    headers: dict[str, str] = field(default_factory=dict)
    hang_s: float | None = None  # say nothing for so long, then go on
    cut_after_bytes: int | None = None  # close the connection after so many bytes of the body
    stall_after_bytes: int | None = None
    stall_s: float = 3600.0
    bytes_per_s: float | None = None
    corrupt_at: int | None = None  # flip the byte at this offset of the file
    no_range: bool = False  # answer 200 with everything

    def takes(self, request: str) -> bool:
        """Whether this fault applies to ``"METHOD path"``; counts down when it does."""
        if self.count == 0 or re.fullmatch(self.match, request) is None:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.count is not None:
            self.count -= 1
        return True


@dataclass(slots=True)
class LogEntry:
    """One request as the server saw it; ``sent_bytes`` grows while a body is sent."""

    origin: str
    method: str
    path: str
    query: str
    headers: dict[str, str]
    at_s: float
    status: int | None = None
    sent_bytes: int = 0


class Trouble:
    """The faults in force and the requests so far."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._log: list[LogEntry] = []

    def add(self, fields: dict[str, Any]) -> None:
        """Put one more fault in force; TypeError for an unknown field."""
        self._faults.append(Fault(**fields))

    def reset(self) -> None:
        """Forget faults and log."""
        self._faults.clear()
        self._log.clear()

    def enter(
        self, origin: str, method: str, path: str, query: str, headers: dict[str, str]
    ) -> tuple[LogEntry, Fault | None]:
        """Note a request and pick the first fault that applies to it."""
        entry = LogEntry(origin, method, path, query, headers, time.time())
        self._log.append(entry)
        request = f"{method} {path}"
        return entry, next((fault for fault in self._faults if fault.takes(request)), None)

    def log(self) -> list[dict[str, Any]]:
        """All requests since the last reset, in order of arrival."""
        return [asdict(entry) for entry in self._log]
