"""How to follow a job to its end over connections that may break: pure decisions, the clients do the talking."""

from __future__ import annotations

from dataclasses import dataclass

from lilliput_client.errors import ApiError, LilliputClientError
from lilliput_client.values import Job

_MOST_LOSSES = 12
_FIRST_DELAY_S = 0.25
_LONGEST_DELAY_S = 5.0


@dataclass(frozen=True, slots=True)
class Step:
    """What to do next: wait ``delay_s``, then ask once (``poll``) or read the job's events."""

    poll: bool
    delay_s: float


class JobFollower:
    """Events first; when they bring nothing, one plain question, then events again; silence is borne for 40 seconds."""

    def __init__(self) -> None:
        self.finished = False
        self._last: Job | None = None
        self._step = Step(poll=False, delay_s=0.0)
        self._losses = 0
        self._heard = False

    def next_step(self) -> Step:
        """The step to take now."""
        self._heard = False
        return self._step

    def is_news(self, job: Job) -> bool:
        """Take in a snapshot; whether it differs from the one before."""
        self._heard = True
        self._losses = 0
        self.finished = job.finished
        news = job != self._last
        self._last = job
        return news

    def ended(self, error: LilliputClientError | None = None) -> None:
        """The step is over, with ``error`` if it failed; raises it when going on makes no sense."""
        polled = self._step.poll
        if error is not None and isinstance(error, ApiError) and (polled or error.status == 404):
            raise error
        self._losses += 1
        if error is not None and self._losses > _MOST_LOSSES:
            raise error
        delay_s = min(_FIRST_DELAY_S * 2 ** (self._losses - 1), _LONGEST_DELAY_S)
        self._step = Step(poll=not self._heard and not polled, delay_s=delay_s)
