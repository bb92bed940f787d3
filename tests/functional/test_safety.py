"""Safe settings, shown with the installed build: a real crash inside a real engine, and an answer all the same."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx
import pytest
from tests.functional.conftest import MODEL, ONE_THREAD, client_of
from tests.support.crash import build_crash_shim
from tests.support.daemon import DaemonProcess
from tests.support.safe_rung import rungs_here
from tests.support.watching import engines

pytestmark = [
    pytest.mark.functional,
    pytest.mark.skipif(sys.platform != "linux", reason="the crash is made by a library loaded ahead of the engine's"),
]

CRASHED = "crashed with native settings"


@pytest.fixture(scope="module")
def crashing(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which engines crash at their first pass when the CPU backend's extra buffers are on."""
    shim = build_crash_shim(tmp_path_factory.mktemp("shim"))
    return ONE_THREAD | {"LD_PRELOAD": str(shim)}


def answer(http: httpx.Client) -> str:
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Tell me about the sea."}],
        "temperature": 0,
        "max_tokens": 12,
    }
    told = http.post("/v1/chat/completions", json=body).raise_for_status().json()
    return str(told["choices"][0]["message"]["content"])


def backend(http: httpx.Client) -> str:
    (engine,) = engines(http)
    return str(engine["settings"]["backend"])


def test_an_engine_that_crashes_with_native_settings_runs_with_safe_ones_from_then_on(
    tmp_path: Path, crashing: dict[str, str]
) -> None:
    with DaemonProcess(tmp_path, crashing) as daemon, client_of(daemon) as its:
        said = answer(its)
        assert backend(its) == "no-extra-buffers"
    assert "sea" in said.lower()
    assert daemon.log.count(CRASHED) == 1
    assert "SIGSEGV" in daemon.log
    with DaemonProcess(tmp_path, crashing) as again, client_of(again) as its:
        assert answer(its) == said
        assert backend(its) == "no-extra-buffers"
    assert again.log.count(CRASHED) == 1  # the log of both runs: no second crash


def test_an_engine_keeps_as_much_of_the_processor_as_holds(http: httpx.Client, served: DaemonProcess) -> None:
    assert "sea" in answer(http).lower()
    assert backend(http) == next(one for one in rungs_here() if f"crashed with {one} settings" not in served.log)


@pytest.mark.skipif("no-amx" not in rungs_here(), reason="this machine has no AMX, or lets no process do without")
def test_a_processor_whose_amx_is_a_trap_serves_without_amx_from_then_on(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path, ONE_THREAD) as daemon, client_of(daemon) as its:
        said = answer(its)
        held, trapped = backend(its), CRASHED in daemon.log
    assert "sea" in said.lower()
    assert held == ("no-amx" if trapped else "native")
    with DaemonProcess(tmp_path, ONE_THREAD) as again, client_of(again) as its:
        assert answer(its) == said
        assert backend(its) == held
    assert again.log.count(CRASHED) == int(trapped)  # the log of both runs: no second crash


def test_settings_that_held_once_and_crash_now_are_left_too(tmp_path: Path, crashing: dict[str, str]) -> None:
    with DaemonProcess(tmp_path, ONE_THREAD) as daemon, client_of(daemon) as its:
        its.post("/lilliput/engines", json={"model": MODEL}).raise_for_status()
        held = backend(its)
    before = daemon.log.count(CRASHED)
    with DaemonProcess(tmp_path, crashing) as daemon, client_of(daemon) as its:
        assert "sea" in answer(its).lower()
        assert backend(its) == "no-extra-buffers"
    assert daemon.log.count(CRASHED) - before == (1 if held == "native" else 0)
