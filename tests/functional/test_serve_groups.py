"""Models that exclude each other, and what is told of one that failed."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import httpx
import pytest
from tests.functional.conftest import MODEL, ONE_THREAD, client_of
from tests.support.daemon import DaemonProcess
from tests.support.model import smollm2_path
from tests.support.pulling import run_cli
from tests.support.watching import active, engines, wait_until

pytestmark = pytest.mark.functional


def ask(http: httpx.Client, model: str) -> httpx.Response:
    return http.post("/v1/completions", json={"model": model, "prompt": "One day", "max_tokens": 2})


def test_models_of_a_group_are_never_in_memory_together_and_a_busy_one_is_waited_for(tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    shutil.copy(smollm2_path(), other)
    settings = ONE_THREAD | {"LILLIPUT_EXCLUSIVE_GROUPS": f"{MODEL}, {other}"}
    with DaemonProcess(tmp_path / "data", settings) as daemon, client_of(daemon) as http:
        assert ask(http, MODEL).status_code == 200
        assert ask(http, str(other)).status_code == 200
        assert [one["model"] for one in engines(http)] == [str(other)]
        long = {"model": str(other), "prompt": "One day", "max_tokens": 60, "ignore_eos": True, "stream": True}
        with http.stream("POST", "/v1/completions", json=long) as answer:
            wait_until(lambda: active(http) == 1)
            assert ask(http, MODEL).status_code == 200
            assert list(answer.iter_lines())[-2] == "data: [DONE]"
        assert [one["model"] for one in engines(http)] == [MODEL]
        http.put(f"/lilliput/pins/{MODEL}").raise_for_status()
        refused = ask(http, str(other))
        assert refused.status_code == 503
        assert "which is pinned" in refused.json()["error"]["message"]
        assert float(refused.headers["retry-after"]) >= 1
        assert "Traceback" not in daemon.log


def test_an_engine_that_died_stays_listed_with_its_reason_until_it_is_tried_again(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path, ONE_THREAD) as daemon, client_of(daemon) as http:
        assert ask(http, MODEL).status_code == 200
        os.kill(engines(http)[0]["pid"], signal.SIGKILL)
        wait_until(lambda: engines(http)[0]["state"] == "failed")
        (failed,) = engines(http)
        assert "SIGKILL" in failed["error"]
        assert (failed["pid"], failed["memory_bytes"], failed["active"]) == (None, None, 0)
        assert failed["failed_at"] >= failed["loaded_at"]
        shown = run_cli(daemon, "ps")
        assert "failed" in shown.stdout
        assert "SIGKILL" in shown.stdout
        assert ask(http, MODEL).status_code == 200
        assert [one["state"] for one in engines(http)] == ["ready"]
