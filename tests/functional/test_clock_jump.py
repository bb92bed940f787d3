"""The clock on the wall is set forward and back: nothing expires too early, and nothing stays for ever."""

from __future__ import annotations

import json
import os
import time
from functools import partial
from pathlib import Path

import httpx
import pytest
from tests.functional.conftest import MODEL, ONE_THREAD, client_of
from tests.support.daemon import DaemonProcess
from tests.support.hostile import sound
from tests.support.watching import engines, wait_until

pytestmark = pytest.mark.functional

YEAR_S = 365 * 24 * 3600
JUMPING_CLOCK = """
import os, time
_true = time.time
def _jumping():
    try:
        with open(os.environ["JUMP_FILE"]) as file:
            return _true() + float(file.read())
    except (OSError, ValueError):
        return _true()
time.time = _jumping
"""
"""Runs before the daemon, whose clock shows what a file says more."""

ENDLESS = {"model": MODEL, "prompt": "once", "max_tokens": 3000, "ignore_eos": True, "stream": True}
SHORT = {"model": MODEL, "prompt": "one two", "max_tokens": 3}


def is_done(http: httpx.Client, job: str) -> bool:
    return bool(http.get(f"/lilliput/jobs/{job}").json()["state"] == "done")


def test_engines_deadlines_and_jobs_do_not_mind(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(JUMPING_CLOCK)
    model, jump = tmp_path / "tiny.gguf", tmp_path / "jump"
    model.write_bytes(sound().encode())
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    settings = ONE_THREAD | {"PYTHONPATH": path, "JUMP_FILE": str(jump), "LILLIPUT_KEEP_ALIVE_S": "600"}
    with DaemonProcess(tmp_path / "data", settings) as daemon, client_of(daemon) as http:
        http.post("/lilliput/pulls", json={"model": str(model)}).raise_for_status()
        wait_until(lambda: http.get("/lilliput/jobs").json()["jobs"][0]["state"] == "done")
        with http.stream("POST", "/v1/completions", json=ENDLESS, headers={"x-request-timeout": "60"}) as response:
            lines = (line.removeprefix("data: ") for line in response.iter_lines() if line)
            (engine,) = engines(http)
            for jump_s in (10 * YEAR_S, -10 * YEAR_S):
                jump.write_text(str(jump_s))
                assert abs(engines(http)[0]["last_used_at"] - time.time()) < 11 * YEAR_S
                told = [json.loads(next(lines)) for _ in range(5)]
                assert all("error" not in one for one in told)
                answer = http.post("/v1/completions", json=SHORT, headers={"x-request-timeout": "30"})
                assert answer.status_code == 200
                pulled = http.post("/lilliput/pulls", json={"model": str(model)}).raise_for_status().json()
                wait_until(partial(is_done, http, pulled["id"]))
        assert engines(http)[0]["pid"] == engine["pid"]
        wait_until(lambda: engines(http)[0]["expires_at"] is not None)
        left_s = engines(http)[0]["expires_at"] - (time.time() - 10 * YEAR_S)
        assert 590 < left_s < 601  # told by the clock as it is now
        jump.write_text(str(10 * YEAR_S))
        time.sleep(0.5)
        assert engines(http)[0]["pid"] == engine["pid"]  # and waited for by one that nobody sets
        http.post("/v1/completions", json=SHORT | {"keep_alive": 0.5}).raise_for_status()
        jump.write_text(str(-10 * YEAR_S))
        wait_until(lambda: engines(http) == [], 5)
        assert "Traceback" not in daemon.log
