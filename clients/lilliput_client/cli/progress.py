"""A job's progress on stderr: a moving bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import closing
from types import TracebackType
from typing import Protocol, Self

import typer

from lilliput_client import Client, DaemonUnreachable, Job, LilliputClientError
from lilliput_client.cli import formats
from lilliput_client.cli.failures import INTERRUPTED, explain
from lilliput_client.cli.output import talk

_EVERY_S = 5.0


class View(Protocol):
    """Shows the snapshots of one job between ``with`` and its end."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, job: Job) -> None:
        """Show this snapshot."""
        ...

    def say(self, line: str) -> None:
        """Print a line that stays."""
        ...


class Lines:
    """A line for each new phase or message, and one every few seconds in between."""

    def __init__(self, write: Callable[[str], None] = talk, clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._shown: tuple[str | None, ...] = ()
        self._shown_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is left open."""

    def show(self, job: Job) -> None:
        """Print a line if there is news, or if it is time for one."""
        now = self._clock()
        subject = (job.state, job.phase, job.message, job.file)
        if subject == self._shown and now - self._shown_at < _EVERY_S:
            return
        self._shown, self._shown_at = subject, now
        self.say("  ".join(part for part in (heading(job), amount(job), pace(job), job.message) if part))

    def say(self, line: str) -> None:
        """Print the line."""
        self._write(line)


class Bar:
    """Rich's live bar, with the daemon's own rate and remaining time."""

    def __init__(self) -> None:
        from rich.console import Console  # late: only a terminal needs it
        from rich.progress import BarColumn, Progress, TextColumn

        column = "{task.fields[%s]}"
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn(column % "amount", markup=False),
            TextColumn(column % "pace", markup=False),
            TextColumn(column % "message", markup=False),
            console=Console(stderr=True, markup=False, highlight=False),
            expand=True,
        )
        self._task = self._progress.add_task("", total=None, amount="", pace="", message="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, job: Job) -> None:
        """Move the bar."""
        self._progress.update(
            self._task,
            description=heading(job),
            total=job.total_bytes,
            completed=job.completed_bytes or 0,
            amount=amount(job),
            pace=pace(job),
            message=job.message or "",
        )

    def say(self, line: str) -> None:
        """Print the line above the bar."""
        self._progress.console.print(line)


def heading(job: Job) -> str:
    """What the job is at: its phase or its place in the queue, and its file."""
    at = job.state if job.finished or job.phase is None else job.phase
    if job.state == "queued" and job.position:
        at = f"queued as number {job.position}:"
    name = (job.file or "").rsplit("/", 1)[-1]
    return f"{at} {name or job.model}"


def amount(job: Job) -> str:
    """How far the job is, in bytes: ``1.0 GiB of 4.0 GiB``."""
    if job.completed_bytes is None or not job.total_bytes:
        return ""
    return f"{formats.size(job.completed_bytes)} of {formats.size(job.total_bytes)}"


def pace(job: Job) -> str:
    """How fast the job is and how long it will take."""
    if job.finished or not job.rate_bytes_s:
        return ""
    left = "" if job.eta_s is None else f"  {formats.duration(job.eta_s)} left"
    return f"{formats.size(job.rate_bytes_s)}/s{left}"


def choose_view() -> View:
    """The view that suits stderr."""
    return Bar() if sys.stderr.isatty() else Lines()


class Patience:
    """Waits between two tries to hear of a job, and says once per outage that it waits for the daemon."""

    def __init__(self, client: Client, say: Callable[[str], None], sleep: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self._say = say
        self._sleep = sleep
        self._told = False

    def __call__(self, delay_s: float) -> None:
        """Wait; a connection may also break while the daemon is well, so it is asked whether it answers."""
        try:
            self._client.health()
        except DaemonUnreachable:
            if not self._told:
                self._say(f"waiting for the daemon at {self._client.address.base_url}")
            self._told = True
        except LilliputClientError:
            pass  # it answers, if only with an error
        else:
            self._told = False
        self._sleep(delay_s)


def follow(
    client: Client,
    job: Job,
    again: str,
    *,
    ended: Callable[[Job], str] | None = None,
    cancelled: str = "cancelled; what is there is kept, go on with",
) -> Job:
    """Show a job to its end and return its last snapshot; raises what it failed with.

    Ctrl-C cancels it in the daemon, and ``cancelled`` says what that means for ``again``, the command to type then.
    ``ended`` tells what was done: by default, what a pull has done.
    """
    chosen = None
    try:
        with (
            choose_view() as view,
            Client(client.address.base_url, sleep=Patience(client, view.say)) as patient,
            closing(patient.follow_job(job.id)) as snapshots,
        ):
            for job in snapshots:  # noqa: PLR1704 - the newest snapshot of the same job
                if chosen is None and (chosen := choice(job)):
                    view.say(chosen)
                view.show(job)
    except KeyboardInterrupt:
        _cancel(client, job, f"{cancelled}: {again}")
        raise typer.Exit(INTERRUPTED) from None
    job.check()
    talk((ended or outcome)(job))
    return job


def _cancel(client: Client, job: Job, told: str) -> None:
    try:
        client.cancel_job(job.id)
    except LilliputClientError as error:
        explain(error)
        return
    talk(told)


def choice(job: Job) -> str | None:
    """What a pull takes and why, as soon as it has been decided."""
    result = job.result or {}
    if not result.get("name"):
        return None
    size = formats.size(result.get("size_bytes"))
    reason = result.get("reason")
    return f"taking {result['name']} ({size})" + (f": {reason}" if reason else "")


def outcome(job: Job) -> str:
    """What a finished pull has done."""
    result = job.result or {}
    name = result.get("name") or job.model
    return f"{name} is up to date" if result.get("up_to_date") else f"{name} is installed"
