"""Tuning the real model through the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest
from tests.functional.conftest import MODEL, ONE_THREAD, client_of
from tests.support.daemon import DaemonProcess

pytestmark = pytest.mark.functional

SECONDS = "6"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    with DaemonProcess(tmp_path_factory.mktemp("tuned"), ONE_THREAD) as started:
        yield started


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "lilliput_client.cli", "tune", MODEL, *arguments]


def tune(daemon: DaemonProcess, *arguments: str) -> dict[str, Any]:
    """The document that ``lilliput tune`` prints."""
    environment = os.environ | {"LILLIPUT_HOST": daemon.url}
    done = subprocess.run(command(*arguments, "--json"), env=environment, capture_output=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_a_model_is_measured_shown_chosen_and_loaded_so(daemon: DaemonProcess) -> None:
    measured = tune(daemon, "--seconds", SECONDS)
    usual, *others = measured["trials"]
    assert usual["tokens_per_s"][0][1] > 1
    assert {width for width, _ in usual["wide_tokens_per_s"]} == {1, 2, 4, 8, 16}
    assert any(not one["flash_attention"] for one in others)
    assert {one["threads"] for one in measured["trials"]} == {1}, "the number of threads was set for the daemon"
    assert tune(daemon, "--show") == measured
    chosen = tune(daemon, "--set", "width=1", "--set", "flash_attention=on")
    assert (chosen["chosen"]["width"], chosen["settings"]["width"], chosen["trials"]) == (1, 1, measured["trials"])
    with client_of(daemon) as http:
        assert most_at_once(http) == 1
        (engine,) = http.get("/lilliput/engines").json()["engines"]
    assert (engine["slots"], engine["settings"]["width"], engine["settings"]["flash_attention"]) == (1, "1", "on")
    assert tune(daemon, "--clear")["settings"] == measured["measured"]


def test_ctrl_c_ends_measuring_and_keeps_what_was_known(daemon: DaemonProcess) -> None:
    known = tune(daemon, "--show")
    environment = os.environ | {"LILLIPUT_HOST": daemon.url}
    with subprocess.Popen(command("--seconds", "60"), env=environment, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert "tokens/s" in running.stderr.readline()
        assert probes(daemon)
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 130
    until = time.monotonic() + 30
    while probes(daemon) and time.monotonic() < until:
        time.sleep(0.05)
    assert not probes(daemon)
    assert tune(daemon, "--show") == known


def most_at_once(http: httpx.Client) -> int:
    """How many of three answers were made at the same time."""
    body = {"model": MODEL, "prompt": "One, two,", "max_tokens": 24, "ignore_eos": True}
    threads = [threading.Thread(target=http.post, args=("/v1/completions",), kwargs={"json": body}) for _ in range(3)]
    for one in threads:
        one.start()
    seen = [0]
    while any(one.is_alive() for one in threads):
        engines = http.get("/lilliput/engines").json()["engines"]
        seen += [engine["active"] for engine in engines]
        time.sleep(0.02)
    return max(seen)


def probes(daemon: DaemonProcess) -> list[psutil.Process]:
    """The children of a daemon that measure."""
    children = psutil.Process(daemon.pid).children(recursive=True)
    return [one for one in children if "lilliput.llama.tune_probe" in _command_line(one)]


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
