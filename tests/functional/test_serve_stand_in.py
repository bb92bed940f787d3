"""A model whose engines find too little memory, and a smaller variant that serves: real engines, really limited."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from tests.functional.conftest import client_of
from tests.support.daemon import DaemonProcess
from tests.support.hub import HubServer
from tests.support.pulling import QUICK, pull
from tests.support.variants import Variants
from tests.support.watching import engines

from lilliput.units import KIB

pytestmark = [
    pytest.mark.functional,
    pytest.mark.skipif(not hasattr(psutil, "RLIMIT_AS"), reason="this system has no limits for processes"),
]

Offer = Callable[..., str]

LIMIT_WORKERS = """
import os, resource, sys
if "lilliput.engine.worker" in sys.orig_argv and os.path.exists({path!r}):
    limit = int(open({path!r}).read())
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
"""
"""What every Python of the daemon runs as it starts: engines alone get as much address space as the file says."""

# With arenas for each thread the C library would take as much address space as it gets, and do with less.
LEAST = {"context": 256, "kv": "q4_0", "slots": 1}


def peak_bytes(http: httpx.Client, model: str) -> int:
    """The address space that an engine takes when it has as little as possible, and its safe settings are known."""
    http.post("/lilliput/engines", json={"model": model, **LEAST}).raise_for_status()
    http.delete(f"/lilliput/engines/{model}").raise_for_status()
    engine = http.post("/lilliput/engines", json={"model": model, **LEAST}).raise_for_status().json()
    told = Path(f"/proc/{engine['pid']}/status").read_text()
    http.delete(f"/lilliput/engines/{model}").raise_for_status()
    found = re.search(r"VmPeak:\s+(\d+) kB", told)
    assert found is not None
    return int(found[1]) * KIB


def ask(http: httpx.Client, model: str) -> httpx.Response:
    return http.post("/v1/completions", json={"model": model, "prompt": "The sea", "max_tokens": 4})


def error_of(answer: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    return error


def test_the_next_smaller_variant_serves_says_so_and_a_named_one_is_refused(
    tmp_path: Path, hub: HubServer, offer: Offer, variants: Variants
) -> None:
    repo, limit_file = offer("Q8_0", "Q4_K_M"), tmp_path / "limit"
    (tmp_path / "sitecustomize.py").write_text(LIMIT_WORKERS.format(path=str(limit_file)))
    settings = (
        hub.environment(tmp_path / "hf")
        | QUICK
        | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}", "MALLOC_ARENA_MAX": "1"}
    )
    with DaemonProcess(tmp_path / "data", settings) as daemon, client_of(daemon) as http:
        large, small = f"{repo}:Q8_0", f"{repo}:Q4_K_M"
        for name in (small, large):
            pull(daemon, name)
        peaks = [peak_bytes(http, name) for name in (small, large)]
        assert peaks[0] < peaks[1]
        limit_file.write_text(str(sum(peaks) // 2))

        answer = ask(http, repo).raise_for_status()
        assert answer.json()["model"] == small
        assert (
            f"{small} in place of {large} (because {large} could not be loaded" in answer.headers["x-lilliput-degraded"]
        )
        (engine,) = [one for one in engines(http) if one["state"] == "ready"]
        assert f"{small} in place of {large}" in engine["degraded"][-1]
        assert "lilliput_memory_steps_total" in http.get("/metrics").text
        again = ask(http, repo).raise_for_status()  # at once: nothing is tried again
        assert (again.json()["model"], again.elapsed.total_seconds() < 5) == (small, True)

        refused = ask(http, large)
        assert (refused.status_code, error_of(refused)["code"]) == (507, "does_not_fit")
        assert "Tried: as it was planned" in error_of(refused)["message"]
        assert f"ask for {small}, which is smaller and installed" in error_of(refused)["message"]

        limit_file.unlink()
        assert ask(http, large).raise_for_status().json()["model"] == large
