"""Starting and ending daemons: nothing is left behind, and what is wrong is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
from tests.functional.conftest import MODEL, ONE_THREAD, client_of
from tests.support.daemon import DaemonProcess, clean_environment
from tests.support.pulling import run_cli
from tests.support.watching import engines, wait_until

pytestmark = pytest.mark.functional

STORY = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Tell me a very long story."}],
    "max_tokens": 3000,
    "ignore_eos": True,
    "stream": True,
}


def run_daemon(data_dir: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A daemon that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "lilliput", *arguments],
        env=clean_environment(data_dir, variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def children(daemon: DaemonProcess) -> list[psutil.Process]:
    return psutil.Process(daemon.pid).children(recursive=True)


def test_after_the_drain_time_a_running_stream_ends_with_an_error_and_no_process_is_left(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path, ONE_THREAD | {"LILLIPUT_DRAIN_S": "0.3"}) as daemon, client_of(daemon) as http:
        with http.stream("POST", "/v1/chat/completions", json=STORY) as response:
            lines = (line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: "))
            for _ in range(4):
                next(lines)
            workers = children(daemon)
            assert engines(http)[0]["pid"] in [worker.pid for worker in workers]
            with ThreadPoolExecutor(1) as threads:
                status = threads.submit(daemon.stop)
                *_, last, done = lines
        assert done == "[DONE]"
        assert json.loads(last)["error"]["code"] == "shutting_down"
        assert status.result() == 0
    assert not [worker for worker in workers if worker.is_running()]
    assert "Traceback" not in daemon.log


def test_an_answer_under_way_is_finished_within_the_drain_time(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path, ONE_THREAD | {"LILLIPUT_DRAIN_S": "60"}) as daemon, client_of(daemon) as http:
        with http.stream("POST", "/v1/chat/completions", json=STORY | {"max_tokens": 40}) as response:
            lines = (line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: "))
            for _ in range(4):
                next(lines)
            with ThreadPoolExecutor(1) as threads:
                status = threads.submit(daemon.stop)
                *_, last, done = lines
        assert done == "[DONE]"
        assert json.loads(last)["choices"][0]["finish_reason"] == "length"
        assert status.result() == 0


def test_a_killed_daemon_takes_its_worker_with_it_and_can_be_started_again(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path, ONE_THREAD) as daemon, client_of(daemon) as http:
        with http.stream("POST", "/v1/chat/completions", json=STORY) as response:
            lines = response.iter_lines()
            next(lines)
            worker = psutil.Process(engines(http)[0]["pid"])
            daemon.kill()
        wait_until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, 5)
        daemon.start()
        assert [model["name"] for model in http.get("/lilliput/models").json()["models"]] == [MODEL]


def test_a_data_directory_has_one_daemon_and_a_port_one_listener(served: DaemonProcess, tmp_path: Path) -> None:
    second = run_daemon(served.data_dir, "--port", "0")
    assert second.returncode == 1
    assert f"error: another lilliput daemon already uses {served.data_dir}" in second.stderr
    assert "hint: " in second.stderr
    taken = run_daemon(tmp_path, "--port", str(served.port))
    assert taken.returncode == 1
    assert f"error: port {served.port} of 127.0.0.1 is in use" in taken.stderr
    assert "hint: " in taken.stderr
    assert "Traceback" not in second.stderr + taken.stderr


def test_a_misspelt_variable_or_flag_is_refused_with_what_was_meant(tmp_path: Path) -> None:
    variable = run_daemon(tmp_path, LILLIPUT_CONTEXT_TOKEN="4096")
    assert variable.returncode == 2
    assert "LILLIPUT_CONTEXT_TOKEN is not known" in variable.stderr
    assert "did you mean LILLIPUT_CONTEXT_TOKENS?" in variable.stderr
    value = run_daemon(tmp_path, "--slots", "none")
    assert value.returncode == 2
    assert "--slots is 'none', but must be a whole number from 1 to 256" in value.stderr


def test_settings_bound_what_is_loaded(tmp_path: Path) -> None:
    settings = {"LILLIPUT_CONTEXT_TOKENS": "512", "LILLIPUT_SLOTS": "2", "LILLIPUT_KEEP_ALIVE_S": "0"}
    with DaemonProcess(tmp_path, ONE_THREAD | settings) as daemon, client_of(daemon) as http:
        with http.stream("POST", "/v1/chat/completions", json=STORY) as response:
            lines = response.iter_lines()
            next(lines)
            (engine,) = engines(http)
        assert (engine["context_tokens"], engine["slots"], engine["state"]) == (512, 2, "ready")
        assert engine["memory_bytes"] > 50_000_000
        wait_until(lambda: engines(http) == [], 5)
        too_long = http.post("/v1/completions", json={"model": MODEL, "prompt": [100] * 600})
        assert too_long.status_code == 400
        assert "600 tokens but the context holds 512" in too_long.json()["error"]["message"]


def test_an_engine_is_loaded_and_unloaded_by_hand(http: httpx.Client) -> None:
    route = f"/lilliput/engines/{MODEL}"
    http.delete(route)
    loaded = http.post("/lilliput/engines", json={"model": "smollm2"}).raise_for_status().json()
    assert (loaded["model"], loaded["state"], loaded["active"]) == (MODEL, "ready", 0)
    again = http.post("/lilliput/engines", json={"model": MODEL}).raise_for_status().json()
    assert again["pid"] == loaded["pid"]
    assert http.delete(route).raise_for_status().json() == {"model": MODEL, "unloaded": True}
    assert engines(http) == []
    wait_until(lambda: not psutil.pid_exists(loaded["pid"]), 5)
    missing = http.delete(route)
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model-not-found")


def test_what_does_not_fit_is_refused_with_both_numbers_and_the_daemon_lives(tmp_path: Path) -> None:
    limit = {"LILLIPUT_MEMORY_LIMIT": "100MiB"}
    with DaemonProcess(tmp_path, ONE_THREAD | limit) as daemon, client_of(daemon) as http:
        refused = http.post("/lilliput/engines", json={"model": MODEL})
        assert refused.status_code == 507
        error = refused.json()["error"]
        assert error["code"] == "does-not-fit"
        assert "smollm2:135m needs " in error["message"]
        assert "100.0 MiB can be used" in error["message"]
        chat = http.post("/v1/chat/completions", json={**STORY, "stream": False})
        assert (chat.status_code, chat.json()["error"]["code"]) == (507, "does_not_fit")
        assert engines(http) == []
        assert http.get("/health/live").status_code == 200
        forced = http.post("/lilliput/engines", json={"model": MODEL, "force": True})
        assert (forced.status_code, forced.json()["state"]) == (200, "ready")


SLOW_LISTING = """
import sys, time
if "lilliput.llama.devices" in sys.orig_argv:
    time.sleep(3)
"""


def test_it_is_live_before_its_devices_are_known_and_ready_after_and_plans_wait(tmp_path: Path) -> None:
    """The child that lists devices is slow on purpose: drivers may take long to start."""
    (tmp_path / "sitecustomize.py").write_text(SLOW_LISTING)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with DaemonProcess(tmp_path / "data", ONE_THREAD | {"PYTHONPATH": path}) as daemon, client_of(daemon) as http:
        assert http.get("/health/ready").status_code == 503
        assert http.get("/lilliput/hardware").json()["accelerators_problem"] is None
        assert http.get("/health/ready").status_code == 200


def test_a_request_says_how_long_its_engine_stays(http: httpx.Client) -> None:
    http.delete(f"/lilliput/engines/{MODEL}")
    body = {"model": MODEL, "prompt": "one two", "max_tokens": 2}
    http.post("/v1/completions", json=body | {"keep_alive": "2h"}).raise_for_status()
    (engine,) = engines(http)
    assert 7100 < engine["expires_at"] - time.time() <= 7200
    http.post("/v1/completions", json=body).raise_for_status()
    assert 7100 < engines(http)[0]["expires_at"] - time.time() <= 7200  # from now on
    http.post("/v1/completions", json=body | {"keep_alive": -1}).raise_for_status()
    assert engines(http)[0]["expires_at"] is None
    http.post("/v1/completions", json=body | {"keep_alive": 0}).raise_for_status()
    wait_until(lambda: engines(http) == [], 5)
    refused = http.post("/v1/completions", json=body | {"keep_alive": "soon"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "keep_alive")


def test_a_drained_engine_ends_after_its_answer_and_newcomers_get_another(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path, ONE_THREAD) as daemon, client_of(daemon) as http, ThreadPoolExecutor(2) as threads:
        with http.stream("POST", "/v1/chat/completions", json=STORY | {"max_tokens": 150}) as response:
            lines = (line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: "))
            next(lines)
            (before,) = engines(http)
            drained = threads.submit(http.delete, f"/lilliput/engines/{MODEL}?drain=true")
            wait_until(lambda: engines(http)[0]["state"] == "draining", 5)
            body = {"model": MODEL, "prompt": "one two", "max_tokens": 2}
            newcomer = threads.submit(http.post, "/v1/completions", json=body)
            *_, last, done = lines
        assert (json.loads(last)["choices"][0]["finish_reason"], done) == ("length", "[DONE]")
        assert drained.result().json()["unloaded"]
        assert newcomer.result().status_code == 200
        (after,) = engines(http)
        assert (after["state"], after["pid"] != before["pid"]) == ("ready", True)


def test_a_pinned_model_stays_and_is_loaded_when_the_daemon_starts_again(tmp_path: Path) -> None:
    settings = ONE_THREAD | {"LILLIPUT_KEEP_ALIVE_S": "0"}
    with DaemonProcess(tmp_path, settings) as daemon:
        told = json.loads(run_cli(daemon, "load", "smollm2", "--pin", "--json").stdout)
        assert (told["model"], told["pinned"], told["expires_at"]) == (MODEL, True, None)
        daemon.stop()
        daemon.start()
        with client_of(daemon) as http:
            wait_until(lambda: [one["state"] for one in engines(http)] == ["ready"], 20)
            assert json.loads(run_cli(daemon, "unpin", "smollm2", "--json").stdout) == {"unpinned": ["smollm2"]}
            wait_until(lambda: engines(http) == [], 5)
