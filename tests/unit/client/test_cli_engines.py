"""What ``lilliput engines`` shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.client.conftest import Call
from tests.unit.client.stub import Stub

from lilliput_client.cli import watching

ROUTE = "GET /lilliput/engines"
STATS: dict[str, Any] = {
    "prefill_tokens_s": 57.6,
    "decode_tokens_s": 131.24,
    "steps_s": 32.4,
    "mean_step_s": 0.03,
    "mean_batch_tokens": 5.84,
    "kv_cells_used": 2048,
    "kv_cells": 8192,
    "totals": {"steps": 9, "cached_tokens": 3600, "preemptions": 2, "drafted_tokens": 300, "accepted_tokens": 150},
}
ENGINE = {"model": "m", "state": "ready", "active": 4, "waiting": 1, "stats": STATS}


def test_an_engine_at_work_is_one_row(stub: Stub, call: Call) -> None:
    stub.routes[ROUTE] = 200, {"engines": [ENGINE]}
    header, row = call("engines").stdout.splitlines()
    assert header.split()[:5] == ["MODEL", "STATE", "RUN/WAIT", "PROMPT/S", "TOKENS/S"]
    assert row.split() == ["m", "ready", "4/1", "58", "131.2", "32.4", "5.8", "25%", "3.6K", "2", "50%"]


def test_an_engine_that_told_nothing_has_dashes(stub: Stub, call: Call) -> None:
    stub.routes[ROUTE] = 200, {"engines": [{"model": "m", "state": "loading", "stats": None}]}
    assert call("engines").stdout.splitlines()[1].split() == ["m", "loading", "0/0", *["-"] * 8]


def test_programs_get_the_numbers(stub: Stub, call: Call) -> None:
    stub.routes[ROUTE] = 200, {"engines": [ENGINE]}
    (engine,) = json.loads(call("engines", "--json").stdout)["engines"]
    assert engine["stats"]["totals"]["preemptions"] == 2


@pytest.mark.parametrize("as_json", [False, True])
def test_engines_are_watched_every_second_until_ctrl_c(
    stub: Stub, call: Call, monkeypatch: pytest.MonkeyPatch, *, as_json: bool
) -> None:
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise KeyboardInterrupt

    clock: dict[str, Callable[[float], None]] = {"sleep": staticmethod(sleep)}
    monkeypatch.setattr(watching, "time", type("Clock", (), clock))
    stub.routes[ROUTE] = 200, {"engines": [ENGINE]}
    result = call("engines", "--watch", *(["--json"] if as_json else []))
    assert result.exit_code == 0
    assert waits == [1.0, 1.0, 1.0]
    assert result.stdout.count('"preemptions"' if as_json else "131.2") == 3
