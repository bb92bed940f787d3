"""Engines that die again and again are not started again at once. Pure: times are passed in."""

from __future__ import annotations

from dataclasses import dataclass

from lilliput.errors import Busy

FREE_DEATHS = 4
"""So many deaths in a row cost nothing: the next request starts the engine again."""

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 300.0
"""Pauses double from death to death."""

PROOF_S = 60.0
"""An engine that has lived so long, or has answered anything, was sound: its death is the first of a row."""


@dataclass(slots=True)
class _Row:
    deaths: int
    last_s: float


class Breaker:
    """Counts deaths in a row, by what was run; tells how long to wait before it is run again."""

    def __init__(self) -> None:
        self._rows: dict[str, _Row] = {}

    def note_death(self, key: str, now_s: float, *, lived_s: float, answered: int) -> None:
        """What ``key`` stands for has died after so long, and after so many requests that it answered to their end."""
        row = self._rows.get(key)
        if row is None or lived_s >= PROOF_S or answered:
            self._rows[key] = _Row(1, now_s)
        else:
            row.deaths += 1
            row.last_s = now_s

    def forget(self, key: str) -> None:
        """Somebody has changed something, or wants it in any case."""
        self._rows.pop(key, None)

    def deaths(self, key: str) -> int:
        """Deaths in a row so far."""
        row = self._rows.get(key)
        return 0 if row is None else row.deaths

    def refuse(self, key: str, now_s: float) -> None:
        """Raise Busy while it must not be started yet."""
        wait_s = self.wait_s(key, now_s)
        if wait_s > 0:
            raise Busy(
                f"the engine of {key} has died {self.deaths(key)} times in a row; it is not started yet",
                retry_after_s=wait_s,
                hint="lilliput load starts it now; the daemon's log has its last words",
            )

    def wait_s(self, key: str, now_s: float) -> float:
        """How long it must not be started yet; 0 when it may be."""
        row = self._rows.get(key)
        if row is None or row.deaths <= FREE_DEATHS:
            return 0.0
        pause_s = min(FIRST_PAUSE_S * 2.0 ** min(row.deaths - FREE_DEATHS - 1, 30), LONGEST_PAUSE_S)
        return max(0.0, row.last_s + pause_s - now_s)
