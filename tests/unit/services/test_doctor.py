"""The doctor runs all checks at once, and none can spoil another."""

from __future__ import annotations

import asyncio
import time

import pytest

from lilliput.services.doctor import Check, Doctor, Opinion
from lilliput.services.doctor.finding import Finding, Verdict, report

FINE = Opinion("ok", "all is well", {"count": 1})


async def fine() -> Opinion:
    return FINE


async def broken() -> Opinion:
    raise PermissionError("no right to look")


async def endless() -> Opinion:
    await asyncio.Event().wait()
    return FINE


async def test_a_check_that_fails_or_takes_too_long_is_unknown_and_says_why() -> None:
    doctor = Doctor(
        [Check("a", "A", broken), Check("b", "B", endless, limit_s=0.05), Check("c", "C", fine)], clock=lambda: 5.0
    )
    found = await doctor.examine()
    assert [(one.check, one.verdict) for one in found.checks] == [("a", "unknown"), ("b", "unknown"), ("c", "ok")]
    assert found.checks[0].summary == "the check failed: PermissionError: no right to look"
    assert found.checks[1].summary == "no answer within 0.05 s"
    assert (found.verdict, found.checked_at) == ("ok", 5.0)
    assert found.counts == {"ok": 1, "warning": 0, "problem": 0, "unknown": 2}


async def test_checks_run_at_once() -> None:
    async def slow() -> Opinion:
        await asyncio.sleep(0.1)
        return FINE

    began = time.monotonic()
    found = await Doctor([Check(str(number), "", slow) for number in range(20)]).examine()
    assert time.monotonic() - began < 1
    assert all(one.took_s >= 0.09 for one in found.checks)


async def test_those_who_ask_together_get_one_examination_and_later_ones_another() -> None:
    looks = 0

    async def counted() -> Opinion:
        nonlocal looks
        looks += 1
        await asyncio.sleep(0.01)
        return FINE

    doctor = Doctor([Check("a", "A", counted)])
    gone = asyncio.create_task(doctor.examine())
    stays = asyncio.create_task(doctor.examine())
    await asyncio.sleep(0)
    gone.cancel()
    assert (await stays).verdict == "ok"
    assert looks == 1
    await doctor.examine()
    assert looks == 2


async def test_closing_ends_what_runs() -> None:
    doctor = Doctor([Check("a", "A", endless)])
    await doctor.aclose()
    asked = asyncio.create_task(doctor.examine())
    await asyncio.sleep(0)
    await doctor.aclose()
    with pytest.raises(asyncio.CancelledError):
        await asked


@pytest.mark.parametrize(
    ("verdicts", "worst"),
    [
        (("ok", "problem", "warning"), "problem"),
        (("unknown", "ok", "warning"), "warning"),
        (("unknown", "ok"), "ok"),
        (("unknown",), "unknown"),
        ((), "unknown"),
    ],
)
def test_the_worst_verdict_is_that_of_the_report(verdicts: tuple[Verdict, ...], worst: str) -> None:
    findings = [Finding("a", "A", verdict, "", {}, None, 0.0) for verdict in verdicts]
    assert report(findings, 0.0, 0.0).verdict == worst
