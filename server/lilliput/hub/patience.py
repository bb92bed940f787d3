"""How long to try: timeouts, and retries with growing, jittered waits."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from lilliput.errors import LilliputError
from lilliput.units import KIB, format_duration

Result = TypeVar("Result")
OnWait = Callable[[str, float], None]  # a sentence for people, and for how many seconds nothing will happen

BRIEF_S = 4.0
"""What a Hub that is not needed may take to answer."""

_LEAST_PROGRESS_BYTES = 64 * KIB  # a server that gives a byte a try is not making progress


class Transient(Exception):
    """A failure that trying again may cure; ``error`` is what to raise when it does not."""

    def __init__(self, error: LilliputError, *, retry_after_s: float | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Patience:
    """Limits on waiting. ``attempts`` counts failures in a row without progress, the first included."""

    connect_timeout_s: float = 10.0
    metadata_timeout_s: float = 15.0
    stall_timeout_s: float = 20.0  # a server that sends nothing for so long is taken as gone
    attempts: int = 6
    backoff_s: float = 0.5
    most_backoff_s: float = 20.0
    most_retry_after_s: float = 600.0  # a Hub that asks for more is not waited for
    lock_poll_s: float = 0.25

    @property
    def brief(self) -> Patience:
        """Of one who has something else to go on with."""
        return replace(self, attempts=1, metadata_timeout_s=min(self.metadata_timeout_s, BRIEF_S))

    def wait_s(self, failures: int) -> float:
        """The pause after so many failures in a row: doubling, with jitter so that clients do not come back in step."""
        longest = min(self.most_backoff_s, self.backoff_s * math.pow(2.0, min(failures, 32) - 1))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret

    async def persist(
        self,
        attempt: Callable[[], Awaitable[Result]],
        *,
        on_wait: OnWait | None = None,
        reached_bytes: Callable[[], int] | None = None,
    ) -> Result:
        """The result of ``attempt``, tried again while it raises ``Transient``.

        ``reached_bytes`` says how far the attempts have come: getting further starts the count anew. Raises the error
        of the last ``Transient`` when the attempts are used up, or when the server wants too long a pause.
        """
        failures = 0
        furthest = reached_bytes() if reached_bytes else 0
        while True:
            try:
                return await attempt()
            except Transient as transient:
                reached = reached_bytes() if reached_bytes else 0
                if reached >= furthest + _LEAST_PROGRESS_BYTES:
                    furthest, failures = reached, 0
                failures += 1
                asked_s = transient.retry_after_s
                if failures >= self.attempts or (asked_s is not None and asked_s > self.most_retry_after_s):
                    raise transient.error from transient.__cause__
                pause_s = self.wait_s(failures) if asked_s is None else asked_s
                if on_wait is not None:
                    on_wait(f"{transient.error.message}; trying again in {format_duration(pause_s)}", pause_s)
                await asyncio.sleep(pause_s)
