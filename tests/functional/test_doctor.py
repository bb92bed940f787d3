"""The real command against a real daemon, on the machine that is here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.functional.conftest import MODEL, client_of
from tests.support.daemon import DaemonProcess, clean_environment
from tests.support.hub import MEMBER_TOKEN, HubServer

from lilliput.services.models import find_embedded_file
from lilliput_client import Client

pytestmark = pytest.mark.functional

CHECKS = {
    *("accelerator", "memory", "pressure", "swap", "container", "threads", "amx", "heat", "disk-speed", "disk-space"),
    *("files", "build", "settings", "hub", "token", "clock"),
}


def doctor(daemon: DaemonProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``lilliput doctor`` against a daemon."""
    return subprocess.run(
        [sys.executable, "-m", "lilliput_client.cli", "--url", daemon.url, "doctor", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def verdicts(document: dict[str, Any]) -> dict[str, str]:
    return {one["check"]: one["verdict"] for one in document["checks"]}


def found(document: dict[str, Any], check: str) -> dict[str, Any]:
    one: dict[str, Any] = next(one for one in document["checks"] if one["check"] == check)
    return one


def test_every_check_answers_in_one_shape(hub: HubServer, tmp_path: Path) -> None:
    settings = hub.environment(tmp_path / "hf") | {"HF_TOKEN": MEMBER_TOKEN}
    with DaemonProcess(tmp_path / "data", settings) as daemon, client_of(daemon) as http:
        document = http.get("/lilliput/doctor").json()
    assert set(verdicts(document)) == CHECKS
    assert set(document) == {"verdict", "counts", "checks", "checked_at", "took_s"}
    for one in document["checks"]:
        assert set(one) == {"check", "title", "verdict", "summary", "evidence", "remedy", "took_s"}
        assert one["verdict"] in ("ok", "warning", "problem", "unknown")
        assert one["summary"]
        assert one["remedy"] or one["verdict"] in ("ok", "unknown")
        assert "the check failed" not in one["summary"]
    assert sum(document["counts"].values()) == len(CHECKS)
    assert 1 <= document["took_s"] < 6
    assert (found(document, "hub")["verdict"], found(document, "token")["verdict"]) == ("ok", "ok")
    assert found(document, "clock")["evidence"]["skew_s"] is not None
    assert {entry.path for entry in hub.log()} == {"/api/whoami-v2"}


def test_what_is_wrong_is_named_and_fails_the_command(hub: HubServer, tmp_path: Path) -> None:
    embedded = find_embedded_file()
    assert embedded is not None
    file = tmp_path / "mine.gguf"
    shutil.copy(embedded, file)
    settings = hub.environment(tmp_path / "hf") | {"HF_TOKEN": "hf_refused", "LILLIPUT_THREADS": "500"}
    with DaemonProcess(tmp_path / "data", settings) as daemon:
        with Client(daemon.url) as client:
            client.show(str(file))
        file.unlink()
        plain, programs = doctor(daemon), doctor(daemon, "--json")
    assert (plain.returncode, programs.returncode) == (1, 1)
    assert f"{file} is gone" in plain.stdout
    assert f"-> put it back, or forget it: `lilliput rm {file}`" in plain.stdout
    document = json.loads(programs.stdout)
    assert document["verdict"] == "problem"
    assert {name: one for name, one in verdicts(document).items() if name in ("files", "threads", "token")} == {
        "files": "problem",
        "threads": "warning",
        "token": "problem",
    }
    assert found(document, "files")["evidence"]["missing"] == [str(file)]
    assert "500 threads" in found(document, "threads")["summary"]


def test_an_engine_at_work_is_seen_and_what_its_load_found_out(served: DaemonProcess, http: httpx.Client) -> None:
    body = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 400, "ignore_eos": True, "stream": True}
    http.post("/v1/completions", json={"model": MODEL, "prompt": "Hello", "max_tokens": 1}).raise_for_status()
    begun = threading.Event()
    leave = threading.Event()

    def work() -> None:
        while not leave.is_set():
            with client_of(served) as client, client.stream("POST", "/v1/completions", json=body) as answer:
                for _ in answer.iter_lines():
                    begun.set()
                    if leave.is_set():
                        return

    worker = threading.Thread(target=work)
    worker.start()
    try:
        assert begun.wait(60)
        document = http.get("/lilliput/doctor").json()
    finally:
        leave.set()
        worker.join(60)
    assert found(document, "swap")["evidence"]["busy"] is True
    assert found(document, "amx")["evidence"]["rungs"]
    assert found(document, "amx")["verdict"] in ("ok", "warning")
    assert found(document, "memory")["evidence"]["engines_bytes"] > 50_000_000


def test_without_a_daemon_one_is_started_for_the_call(hub: HubServer, tmp_path: Path) -> None:
    environment = clean_environment(tmp_path / "data", hub.environment(tmp_path / "hf")) | {"LILLIPUT_PORT": "1"}
    result = subprocess.run(
        [sys.executable, "-m", "lilliput_client.cli", "doctor", "--json"],
        env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert "no daemon answers: starting one for this call" in result.stderr
    document = json.loads(result.stdout)
    assert set(verdicts(document)) == CHECKS
    assert result.returncode == (1 if document["verdict"] == "problem" else 0)
