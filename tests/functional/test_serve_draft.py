"""A draft model, from the command line and over HTTP: asked for, shown, kept, taken off, refused, and gone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.functional.conftest import MODEL, ONE_THREAD, client_of
from tests.support.daemon import DaemonProcess, clean_environment
from tests.support.model import gemma_path, smollm2_path
from tests.support.watching import engines

pytestmark = pytest.mark.functional

QUESTION: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Tell me about Paris."}],
    "temperature": 0,
    "max_tokens": 24,
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    with DaemonProcess(tmp_path_factory.mktemp("drafts"), ONE_THREAD) as running:
        yield running


@pytest.fixture
def http(daemon: DaemonProcess) -> Iterator[httpx.Client]:
    with client_of(daemon) as client:
        yield client


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as a file of its own."""
    return Path(shutil.copy(smollm2_path(), tmp_path_factory.mktemp("second") / "second.gguf"))


def command(daemon: DaemonProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = clean_environment(daemon.data_dir, {"LILLIPUT_HOST": daemon.url, "NO_COLOR": "1", "COLUMNS": "200"})
    return subprocess.run(
        [sys.executable, "-m", "lilliput_client.cli", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )


def said(http: httpx.Client, **options: object) -> str:
    answer = http.post("/v1/chat/completions", json=QUESTION | options)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


def test_the_command_line_asks_for_one_and_it_holds_for_later_loads(
    daemon: DaemonProcess, http: httpx.Client, second: Path
) -> None:
    plain = said(http)
    (before,) = engines(http)
    assert "draft" not in before["settings"]
    asked = command(daemon, "load", MODEL, "--draft", str(second), "--context", "1024")
    assert asked.returncode == 0, asked.stderr
    (loaded,) = engines(http)
    assert (loaded["settings"]["draft"], loaded["context_tokens"]) == (str(second), 1024)
    assert str(second) in command(daemon, "ps").stdout
    assert said(http) == plain
    http.delete(f"/lilliput/engines/{MODEL}")
    assert said(http, temperature=0.8, seed=3) == said(http, temperature=0.8, seed=3, speculation="off")
    (again,) = engines(http)
    assert again["settings"]["draft"] == str(second)


def test_what_is_gone_is_done_without_and_said(http: httpx.Client, second: Path) -> None:
    asked = {"model": MODEL, "context": 1024, "draft": str(second)}
    assert http.post("/lilliput/engines", json=asked).json()["settings"]["draft"] == str(second)
    assert http.delete(f"/lilliput/models/{second}").status_code == 200
    http.delete(f"/lilliput/engines/{MODEL}")
    second.rename(second.with_suffix(".away"))
    assert said(http)
    (without,) = engines(http)
    assert (without["settings"]["draft"], without["context_tokens"]) == ("none", 1024)
    assert "second.gguf" in without["settings"]["draft_note"]
    error = http.post("/lilliput/engines", json={**asked, "slots": 2}).json()["error"]
    assert error["code"] in ("not-found", "model-not-found")


def test_others_are_refused_by_name(daemon: DaemonProcess, http: httpx.Client) -> None:
    for draft, status, told in (
        ("nothing-like-it", 404, "not installed"),
        (str(gemma_path()), 400, "sliding window"),
    ):
        answer = http.post("/lilliput/engines", json={"model": MODEL, "draft": draft})
        assert answer.status_code == status
        assert told in answer.json()["error"]["message"]
        assert answer.json()["error"]["hint"]
    pull = http.post("/lilliput/pulls", json={"model": MODEL, "draft": "nothing-like-it"})
    assert (pull.status_code, pull.json()["error"]["code"]) == (404, "model-not-found")
    refused = command(daemon, "run", MODEL, "--draft", "nothing-like-it", "Say hi")
    assert refused.returncode != 0
    assert "not installed" in refused.stderr


def test_none_takes_it_off(http: httpx.Client) -> None:
    on = http.post("/lilliput/engines", json={"model": MODEL, "draft": MODEL}).json()["settings"]
    assert (on["draft"], "not smaller" in on["draft_note"]) == (MODEL, True)
    off = http.post("/lilliput/engines", json={"model": MODEL, "draft": "none"}).json()["settings"]
    assert "draft" not in off
    assert json.loads(http.get("/lilliput/engines").text)["engines"][0]["settings"] == off
