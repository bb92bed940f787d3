"""How the work of a job tells what it does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from lilliput.services.job_rate import RateMeter, eta_s
from lilliput.services.job_records import Job


class Publish(Protocol):
    """Makes a new snapshot of a job from some changed fields."""

    def __call__(self, **changes: Any) -> None:  # noqa: D102 - the class says it
        ...


class JobHandle:
    """What a runner holds of its job while it runs once. Only for the event loop's thread."""

    def __init__(
        self,
        request: Mapping[str, Any],
        snapshot: Callable[[], Job],
        publish: Publish,
        monotonic: Callable[[], float],
    ) -> None:
        self.request = request
        """What was asked for, as submitted; the same after a restart."""
        self._snapshot = snapshot
        self._publish = publish
        self._monotonic = monotonic
        self._meter = RateMeter()

    @property
    def job(self) -> Job:
        """The newest snapshot; after a restart it still holds the results noted before."""
        return self._snapshot()

    def enter(self, phase: str, message: str | None = None) -> None:
        """Begin a phase: rates are measured anew. Entering the phase one is in only changes the message."""
        if phase == self.job.phase:
            self.say(message)
            return
        self._meter.reset()
        self._publish(phase=phase, message=message, rate_bytes_s=None, eta_s=None)

    def say(self, message: str | None) -> None:
        """Tell a person what is going on."""
        if message != self.job.message:
            self._publish(message=message)

    def work_on(self, file: str | None, digest: str | None = None) -> None:
        """Name the file that is worked on from now on, with its ``sha256:<hex>`` if known."""
        self._publish(file=file, digest=digest)

    def progress(self, completed_bytes: int, total_bytes: int | None, *, skipped_bytes: int = 0) -> None:
        """Tell how much of the whole job is done; ``skipped_bytes`` of it were there before, so they are no speed."""
        self._meter.add(self._monotonic(), completed_bytes - skipped_bytes)
        rate = self._meter.rate_bytes_s()
        self._publish(
            completed_bytes=completed_bytes,
            total_bytes=total_bytes,
            rate_bytes_s=rate,
            eta_s=eta_s(rate, completed_bytes, total_bytes),
        )

    def note(self, **result: Any) -> None:
        """Add to the result what is already known; it is saved at once, for a later process to go on with."""
        self._publish(result={**self.job.result, **result})


Runner = Callable[[JobHandle], Awaitable[Mapping[str, Any]]]
"""The work of one kind of job; what it returns is merged into the result. Cancellation means: stop, keep what helps."""
