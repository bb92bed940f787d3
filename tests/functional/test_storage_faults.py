"""Disks that take no more, and model files that go away: said clearly, and what needs no disk goes on."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from tests.functional.conftest import MODEL, ONE_THREAD, client_of
from tests.functional.test_serve_lifecycle import run_daemon
from tests.support.daemon import DaemonProcess
from tests.support.hostile import sound
from tests.support.model import smollm2_path
from tests.support.small_disk import MB, fill_up, make_read_only, small_disk
from tests.support.watching import engines, wait_until

pytestmark = pytest.mark.functional

ASKED = {"prompt": "one two", "max_tokens": 3}
ENDLESS = {"prompt": "once", "max_tokens": 2000, "ignore_eos": True, "stream": True}


def ask(http: httpx.Client, model: str) -> httpx.Response:
    return http.post("/v1/completions", json=ASKED | {"model": model})


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 24 * MB) as place:
        yield place


def test_where_the_data_directory_is_full_answers_go_on_and_what_must_be_kept_is_refused(
    disk: Path, tmp_path: Path
) -> None:
    model = tmp_path / "tiny.gguf"
    model.write_bytes(sound().encode())
    daemon = DaemonProcess(disk / "data", ONE_THREAD)
    daemon.log_path = tmp_path / "daemon.log"
    with daemon, client_of(daemon) as http:
        filler = disk / "filler"
        fill_up(filler)
        assert ask(http, MODEL).status_code == 200  # its settings are proven now, which cannot be kept
        refused = http.post("/lilliput/pulls", json={"model": str(model)})
        assert (refused.status_code, refused.json()["error"]["code"]) == (507, "disk-full")
        assert "free some space" in refused.json()["error"]["hint"]
        unknown = ask(http, str(model))
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (507, "disk_full")
        assert [one["name"] for one in http.get("/lilliput/models").json()["models"]] == [MODEL]
        assert http.get("/lilliput/jobs").json()["jobs"] == []
        assert ask(http, MODEL).status_code == 200
        filler.unlink()
        assert ask(http, str(model)).status_code == 200
    assert "Traceback" not in daemon.log


def test_a_read_only_data_directory_is_refused_at_the_start(disk: Path) -> None:
    data = disk / "data"
    with DaemonProcess(data, ONE_THREAD):
        pass
    make_read_only(disk)
    for place in (data, disk / "new"):
        refused = run_daemon(place, "--port", "0")
        assert refused.returncode == 1
        assert refused.stderr.startswith("error: ")
        assert str(place) in refused.stderr
        assert "hint: " in refused.stderr
        assert "LILLIPUT_DATA_DIR" in refused.stderr
        assert "Traceback" not in refused.stderr


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A file of its own that can be taken away."""
    path = tmp_path / "mine.gguf"
    shutil.copyfile(smollm2_path(), path)
    return path


def test_a_model_file_that_is_deleted_while_loaded_answers_to_the_end_and_is_missed_then(
    model: Path, tmp_path: Path
) -> None:
    with DaemonProcess(tmp_path / "data", ONE_THREAD) as daemon, client_of(daemon) as http:
        assert ask(http, str(model)).status_code == 200
        with http.stream("POST", "/v1/completions", json=ENDLESS | {"model": str(model), "max_tokens": 60}) as response:
            lines = (line.removeprefix("data: ") for line in response.iter_lines() if line)
            next(lines)
            model.unlink()
            *_, last, done = lines
        assert (json.loads(last)["choices"][0]["finish_reason"], done) == ("length", "[DONE]")
        for _ in range(2):  # while its engine is there, and when it has gone
            missed = ask(http, str(model))
            assert (missed.status_code, missed.json()["error"]["code"]) == (404, "not_found")
            assert f"there is no file {model}" in missed.json()["error"]["message"]
            http.delete(f"/lilliput/engines/{model}")
        assert engines(http) == []
        shutil.copyfile(smollm2_path(), model)
        assert ask(http, str(model)).status_code == 200
        assert "Traceback" not in daemon.log


def test_a_model_file_that_is_cut_short_while_loaded_ends_its_engine_alone(model: Path, tmp_path: Path) -> None:
    with DaemonProcess(tmp_path / "data", ONE_THREAD) as daemon, client_of(daemon) as http:
        assert ask(http, str(model)).status_code == 200
        (engine,) = engines(http)
        with http.stream("POST", "/v1/completions", json=ENDLESS | {"model": str(model)}) as response:
            lines = (line.removeprefix("data: ") for line in response.iter_lines() if line)
            next(lines)
            os.truncate(model, 1 << 20)
            *_, last, done = lines
        assert (json.loads(last)["error"]["code"], done) == ("engine_died", "[DONE]")
        wait_until(lambda: not psutil.pid_exists(engine["pid"]), 5)
        refused = ask(http, str(model))
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "bad_file")
        assert "is cut off" in refused.json()["error"]["message"]
        assert ask(http, MODEL).status_code == 200
        assert "Traceback" not in daemon.log
