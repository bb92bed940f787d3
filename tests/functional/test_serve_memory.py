"""Engines that may have less memory than was planned: the kernel refuses it to their processes."""

from __future__ import annotations

from pathlib import Path

import httpx
import psutil
import pytest
from tests.functional.conftest import MODEL, ONE_THREAD, client_of
from tests.support.daemon import DaemonProcess
from tests.support.watching import engines, wait_until

from lilliput.units import MIB

pytestmark = [
    pytest.mark.functional,
    pytest.mark.skipif(not hasattr(psutil, "RLIMIT_AS"), reason="this system has no limits for processes"),
]

WISH = {"model": MODEL, "context": 32_768, "rope_scaling": "none"}
"""A cache of 720 MiB as f16."""


def limit(pid: int, size_bytes: int) -> None:
    """Bound the address space of a process, and of all that it starts from now on."""
    psutil.Process(pid).rlimit(psutil.RLIMIT_AS, (size_bytes, psutil.RLIM_INFINITY))


def ask(http: httpx.Client, **fields: object) -> httpx.Response:
    return http.post("/v1/completions", json={"model": MODEL, "prompt": "one two three", "max_tokens": 4, **fields})


def test_a_load_under_a_limit_steps_down_and_serves_and_says_so(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path, ONE_THREAD) as daemon, client_of(daemon) as http:
        limit(daemon.pid, 1000 * MIB)
        engine = http.post("/lilliput/engines", json=WISH).raise_for_status().json()
        assert (engine["context_tokens"], engine["settings"]["kv_type"] != "f16") == (32_768, True)
        assert "instead of f16 (because llama.cpp cannot make a context of 32768 tokens" in engine["degraded"][0]
        answer = ask(http).raise_for_status()
        assert answer.headers["x-lilliput-degraded"] == "; ".join(engine["degraded"])
        assert answer.json()["usage"]["completion_tokens"] > 0
        http.delete(f"/lilliput/engines/{MODEL}").raise_for_status()
        assert "x-lilliput-degraded" in ask(http).raise_for_status().headers  # it is remembered


def test_where_nothing_fits_the_refusal_lists_what_was_tried_and_the_daemon_lives(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path, ONE_THREAD) as daemon, client_of(daemon) as http:
        limit(daemon.pid, 1000 * MIB)
        wish = WISH | {"context": 131_072}
        refused = http.post("/lilliput/engines", json=wish)
        assert (refused.status_code, refused.json()["error"]["code"]) == (507, "does-not-fit")
        error = refused.json()["error"]
        assert "memory is short" in error["message"]
        assert "Tried: as it was planned; a KV cache in" in error["message"]
        assert "lilliput plan" in error["hint"]
        assert engines(http) == []
        limit(daemon.pid, psutil.RLIM_INFINITY)
        assert http.post("/lilliput/engines", json=wish).raise_for_status().json()["degraded"] == []


def test_an_engine_that_runs_out_of_memory_in_use_is_followed_by_one_that_takes_less(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path, ONE_THREAD) as daemon, client_of(daemon) as http:
        ask(http).raise_for_status()
        (engine,) = engines(http)
        used = psutil.Process(engine["pid"]).memory_info().vms
        limit(engine["pid"], used)
        for number in range(
            400
        ):  # prompts that differ: what leaves the cache is kept in memory, as long as there is any
            ask(http, prompt=f"{number} " * 300, max_tokens=1)
            if not psutil.pid_exists(engine["pid"]):
                break
        else:
            pytest.fail("it found memory somewhere")
        wait_until(lambda: all(one["pid"] != engine["pid"] for one in engines(http)), 10)
        answer = ask(http).raise_for_status()
        assert "instead of" in answer.headers["x-lilliput-degraded"]
