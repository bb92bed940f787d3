"""``lilliput pull``: what it sends, shows and ends with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.unit.client.conftest import Call
from tests.unit.client.driver import script
from tests.unit.client.stub import Stub, job

from lilliput_client import Client, DaemonUnreachable, Job
from lilliput_client.cli.progress import Bar, Lines, Patience, amount, choice, heading, outcome, pace

MIB = 1024**2
RESULT = {"name": "m:Q4_K_M", "size_bytes": 100 * MIB, "reason": "the best that fits"}


def events(*snapshots: dict[str, Any]) -> tuple[str, ...]:
    return tuple(json.dumps(snapshot) for snapshot in snapshots)


@pytest.fixture
def pulled(stub: Stub) -> Stub:
    """A stub that pulls well."""
    stub.routes["POST /lilliput/pulls"] = 202, job("queued")
    stub.routes["GET /lilliput/jobs/j1/events"] = events(
        job(phase="resolving", message="looking up org/m"),
        job(phase="choosing", result=RESULT),
        job(phase="downloading", file="m.gguf", completed_bytes=50 * MIB, total_bytes=100 * MIB, result=RESULT),
        job("done", phase="done", completed_bytes=100 * MIB, total_bytes=100 * MIB, result=RESULT),
    )
    return stub


def test_a_pull_shows_its_phases_and_what_it_takes(pulled: Stub, call: Call) -> None:
    result = call("pull", "m", "--variant", "Q4_K_M", "--context", "4096", "--use-case", "bulk", "--force")
    assert pulled.bodies("POST /lilliput/pulls") == [
        {"model": "m", "variant": "Q4_K_M", "context": 4096, "use_case": "bulk", "force": True}
    ]
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.splitlines() == [
        "resolving m  looking up org/m",
        "taking m:Q4_K_M (100.0 MiB): the best that fits",
        "choosing m",
        "downloading m.gguf  50.0 MiB of 100.0 MiB",
        "done m  100.0 MiB of 100.0 MiB",
        "m:Q4_K_M is installed",
    ]


def test_all_that_a_plan_can_pin_is_sent(pulled: Stub, call: Call) -> None:
    rope = ("--rope-scaling", "yarn", "--rope-freq-base", "1e6", "--rope-freq-scale", "0.5", "--yarn-orig-ctx", "2048")
    call("pull", "m", "--slots", "2", "--kv", "q8_0", "--gpu-layers", "0", *rope, "--draft", "small")
    stretched = {
        "rope_scaling": "yarn",
        "rope_freq_base": 1e6,
        "rope_freq_scale": 0.5,
        "yarn_orig_ctx": 2048,
        "draft": "small",
    }
    assert pulled.bodies("POST /lilliput/pulls") == [
        {"model": "m", "slots": 2, "kv": "q8_0", "gpu_layers": 0, **stretched}
    ]


def test_a_pull_for_programs_ends_with_the_job(pulled: Stub, call: Call) -> None:
    assert json.loads(call("pull", "m", "--json").stdout)["result"] == RESULT


def test_a_detached_pull_leaves_the_jobs_id(pulled: Stub, call: Call) -> None:
    assert call("pull", "m", "--detach").stdout == "j1\n"
    assert json.loads(call("pull", "m", "--detach", "--json").stdout)["state"] == "queued"
    assert not pulled.bodies("GET /lilliput/jobs/j1/events")


@pytest.mark.parametrize(("code", "exit_code"), [("does-not-fit", 3), ("disk-full", 1), ("gated-repository", 1)])
def test_a_failed_pull_says_why_and_what_to_do(stub: Stub, call: Call, code: str, exit_code: int) -> None:
    error = {"code": code, "message": "it cannot be", "hint": "change it"}
    stub.routes["POST /lilliput/pulls"] = 202, job("queued")
    stub.routes["GET /lilliput/jobs/j1/events"] = events(job("failed", error=error))
    result = call("pull", "m", "--json")
    assert result.exit_code == exit_code
    assert result.stderr.endswith("error: it cannot be\nhint: change it\n")
    assert json.loads(result.stdout) == {"error": error}


def test_a_pull_that_somebody_cancels_is_a_failure(stub: Stub, call: Call) -> None:
    stub.routes["POST /lilliput/pulls"] = 202, job("queued")
    stub.routes["GET /lilliput/jobs/j1/events"] = events(job("cancelled"))
    result = call("pull", "m")
    assert result.exit_code == 1
    assert "was cancelled" in result.stderr


def test_a_daemon_that_is_gone_is_waited_for_aloud(pulled: Stub, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = iter((events(job(phase="downloading")), events(job("done", result=RESULT))))
    pulled.routes["GET /lilliput/jobs/j1/events"] = lambda: next(tries)

    def gone(_: Client) -> str:
        raise DaemonUnreachable("nobody there")

    monkeypatch.setattr(Client, "health", gone)
    result = call("pull", "m")
    assert result.exit_code == 0
    assert result.stderr.splitlines()[:2] == ["downloading m", f"waiting for the daemon at {pulled.url}"]
    assert result.stderr.endswith("m:Q4_K_M is installed\n")


def test_an_outage_is_told_once() -> None:
    answers = script(
        httpx.ConnectError("refused"),
        httpx.ConnectError("refused"),
        httpx.Response(200, json={"status": "ready"}),
        httpx.Response(500, json={"error": {"code": "x", "message": "ill"}}),
        httpx.ConnectError("refused"),
    )
    said: list[str] = []
    waited: list[float] = []
    with Client("http://127.0.0.1:1726", transport=httpx.MockTransport(answers)) as client:
        wait = Patience(client, said.append, waited.append)
        counts = []
        for delay_s in (1.0, 2.0, 3.0, 4.0, 5.0):
            wait(delay_s)
            counts.append(len(said))
    assert counts == [1, 1, 1, 1, 2]
    assert set(said) == {"waiting for the daemon at http://127.0.0.1:1726"}
    assert waited == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_a_relative_path_is_made_whole_for_the_daemon(
    pulled: Stub, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("./a.gguf", "b.gguf", "org/repo/c.gguf", "/abs/d.gguf"):
        call("pull", name)
    sent = [body["model"] for body in pulled.bodies("POST /lilliput/pulls")]
    assert sent == [str(tmp_path / "a.gguf"), str(tmp_path / "b.gguf"), "org/repo/c.gguf", "/abs/d.gguf"]


def test_lines_come_with_news_or_after_a_while() -> None:
    written: list[str] = []
    times = iter((0.0, 1.0, 4.9, 5.1, 5.2))
    lines = Lines(written.append, lambda: next(times))
    for completed in (1, 2, 3, 4):
        lines.show(Job("j", "running", model="m", phase="downloading", completed_bytes=completed, total_bytes=10))
    assert written == ["downloading m  1 B of 10 B", "downloading m  4 B of 10 B"]
    lines.show(Job("j", "running", model="m", phase="verifying", completed_bytes=10, total_bytes=10))
    assert written[-1] == "verifying m  10 B of 10 B"


def test_a_snapshot_is_put_in_words() -> None:
    running = Job("j", "running", model="m", phase="downloading", file="dir/f.gguf", completed_bytes=MIB)
    assert heading(running) == "downloading f.gguf"
    assert heading(Job("j", "queued", model="m", position=2)) == "queued as number 2: m"
    assert amount(running) == ""
    assert pace(running) == ""
    fast = Job("j", "running", rate_bytes_s=10.0 * MIB, eta_s=125.0)
    assert pace(fast) == "10.0 MiB/s  2 min 05 s left"
    assert pace(Job("j", "done", rate_bytes_s=10.0 * MIB)) == ""
    assert choice(Job("j", "running", result={})) is None
    assert outcome(Job("j", "done", model="m")) == "m is installed"
    assert outcome(Job("j", "done", result={"name": "m", "up_to_date": True})) == "m is up to date"


def test_a_bar_draws_every_kind_of_snapshot(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    with Bar() as bar:
        bar.say("taking [m]")
        bar.show(Job("j", "queued", model="m"))
        bar.show(Job("j", "running", phase="downloading", file="f", completed_bytes=MIB, total_bytes=4 * MIB))
    assert "taking [m]" in capsys.readouterr().err
