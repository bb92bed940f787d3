"""What ``lilliput doctor`` shows, and how it ends."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from tests.unit.client.conftest import Call
from tests.unit.client.driver import Driver, script
from tests.unit.client.stub import Stub

from lilliput_client import Finding, Report

ROUTE = "GET /lilliput/doctor"


def finding(check: str, verdict: str, summary: str, remedy: str | None = None) -> dict[str, Any]:
    return {
        "check": check,
        "verdict": verdict,
        "title": check.upper(),
        "summary": summary,
        "evidence": {"bytes": 5, "paths": ["/a"]},
        "remedy": remedy,
        "took_s": 0.5,
    }


def document(verdict: str, *checks: dict[str, Any]) -> dict[str, Any]:
    counts = {name: sum(one["verdict"] == name for one in checks) for name in ("ok", "warning", "problem", "unknown")}
    return {"verdict": verdict, "checks": list(checks), "counts": counts, "checked_at": 7.0, "took_s": 1.0}


SICK = document(
    "problem",
    finding("swap", "ok", "nothing swaps", "not shown: all is well"),
    finding("amx", "warning", "it crashes", "allow it"),
    finding("hub", "warning", "gone", "look for it"),
    finding("files", "problem", "/a of m is gone", "`lilliput pull m` brings it back"),
    finding("heat", "unknown", "nobody tells"),
)


@pytest.fixture(autouse=True)
def ready(stub: Stub) -> None:
    stub.routes["GET /health/ready"] = 200, {"status": "ready"}


def test_each_check_is_a_line_with_what_to_do_below_it(stub: Stub, call: Call) -> None:
    stub.routes[ROUTE] = 200, SICK
    result = call("doctor")
    assert [" ".join(line.split()) for line in result.stdout.splitlines()] == [
        "VERDICT CHECK FOUND",
        "ok SWAP nothing swaps",
        "warning AMX it crashes",
        "-> allow it",
        "warning HUB gone",
        "-> look for it",
        "problem FILES /a of m is gone",
        "-> `lilliput pull m` brings it back",
        "unknown HEAT nobody tells",
        "",
        "1 problem, 2 warnings, 1 ok, 1 unknown",
    ]
    assert result.exit_code == 1


@pytest.mark.parametrize(("verdict", "code"), [("ok", 0), ("warning", 0), ("unknown", 0), ("problem", 1)])
def test_only_a_problem_is_a_failure(stub: Stub, call: Call, verdict: str, code: int) -> None:
    stub.routes[ROUTE] = 200, document(verdict, finding("a", verdict, "x"))
    assert call("doctor").exit_code == code
    assert call("doctor", "--json").exit_code == code


def test_programs_get_the_whole_report(stub: Stub, call: Call) -> None:
    stub.routes[ROUTE] = 200, SICK
    assert json.loads(call("doctor", "--json").stdout) == SICK


def test_a_report_is_read_with_its_findings(drive: Driver) -> None:
    report = drive(script(httpx.Response(200, json={**SICK, "news_of_tomorrow": 1})), "doctor")
    assert isinstance(report, Report)
    assert report.checks[1] == Finding(
        "amx", "warning", "AMX", "it crashes", {"bytes": 5, "paths": ["/a"]}, "allow it", 0.5
    )
    assert report.counts["warning"] == 2


def test_an_older_daemon_is_told_by_its_answer(stub: Stub, call: Call) -> None:
    result = call("doctor")
    assert result.exit_code == 1
    assert "no route" in result.output
