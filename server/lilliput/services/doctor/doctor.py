"""Runs the checks: all at once, each with a time limit, none able to spoil another."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from lilliput.services.doctor.finding import Finding, Opinion, Report, report

log = logging.getLogger(__name__)

LIMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Check:
    """One question: its name for programs, its title for people, and who answers it within ``limit_s``."""

    name: str
    title: str
    look: Callable[[], Awaitable[Opinion]]
    limit_s: float = LIMIT_S


class Doctor:
    """Examines with the given checks, in one event loop. Those who ask while it is at work get the same report."""

    def __init__(self, checks: Sequence[Check], *, clock: Callable[[], float] = time.time) -> None:
        self._checks = tuple(checks)
        self._clock = clock
        self._running: asyncio.Task[Report] | None = None

    async def examine(self) -> Report:
        """What all checks found; takes no longer than the slowest limit and does not raise."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._examine())
        return await asyncio.shield(self._running)  # one who goes away does not end it for the others

    async def aclose(self) -> None:
        """Stop what runs."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def _examine(self) -> Report:
        began = time.monotonic()
        findings = await asyncio.gather(*(_answer(check) for check in self._checks))
        return report(findings, self._clock(), round(time.monotonic() - began, 3))


async def _answer(check: Check) -> Finding:
    began = time.monotonic()
    try:
        async with asyncio.timeout(check.limit_s):
            opinion = await check.look()
    except TimeoutError:
        opinion = Opinion(
            "unknown", f"no answer within {check.limit_s:g} s", {"limit_s": check.limit_s}, remedy="look again later"
        )
    except Exception as error:
        log.warning("the check of %s failed", check.title, exc_info=True)
        reason = f"{type(error).__name__}: {error}"
        opinion = Opinion("unknown", f"the check failed: {reason}", {"error": reason}, remedy="the log has more of it")
    return Finding(
        check.name,
        check.title,
        opinion.verdict,
        opinion.summary,
        opinion.evidence,
        opinion.remedy,
        round(time.monotonic() - began, 3),
    )
