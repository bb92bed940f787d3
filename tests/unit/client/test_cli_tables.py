"""What the commands print of the daemon's answers, for people and for programs."""

from __future__ import annotations

import json

import pytest
from tests.unit.client.conftest import Call
from tests.unit.client.stub import MODEL, Stub, job, not_found

GIB = 1024**3


def test_installed_models_are_listed(stub: Stub, call: Call) -> None:
    stub.routes["GET /lilliput/models"] = 200, {"models": [MODEL]}
    result = call("list")
    header, row = result.stdout.splitlines()
    assert header.split() == ["NAME", "QUANTIZATION", "SIZE", "SOURCE", "MODIFIED"]
    assert row.split()[:5] == ["smollm2:135m", "Q4_K_M", "100.6", "MiB", "embedded"]
    assert result.stderr == ""
    assert call("ls").stdout == result.stdout


def test_installed_models_are_told_to_programs(stub: Stub, call: Call) -> None:
    stub.routes["GET /lilliput/models"] = 200, {"models": [MODEL]}
    (model,) = json.loads(call("list", "--json").stdout)["models"]
    assert model == {**MODEL, "repo": None, "revision": None, "digest": None}


def test_a_model_is_shown_with_its_files(stub: Stub, call: Call) -> None:
    stub.routes["GET /lilliput/models/org/repo:Q4_K_M"] = 200, {**MODEL, "repo": "org/repo", "revision": "0" * 40}
    shown = call("show", "org/repo:Q4_K_M").stdout
    assert "org/repo@000000000000" in shown
    assert "135M" in shown
    assert "2048 tokens" in shown
    assert "/models/smollm2.gguf" in shown
    assert json.loads(call("show", "org/repo:Q4_K_M", "--json").stdout)["repo"] == "org/repo"


def test_engines_are_listed(stub: Stub, call: Call) -> None:
    engine = {"model": "m", "state": "ready", "memory_bytes": 2 * GIB, "context_tokens": 4096, "slots": 4, "active": 1}
    stub.routes["GET /lilliput/engines"] = 200, {"engines": [engine]}
    assert call("ps").stdout.splitlines()[1].split() == ["m", "ready", "2.0", "GiB", "4096", "4", "1/0", "-"]
    assert json.loads(call("ps", "--json").stdout)["engines"][0]["waiting"] == 0


def test_a_name_is_never_read_as_markup(stub: Stub, call: Call) -> None:
    stub.routes["GET /lilliput/models"] = 200, {"models": [{"name": "[red]x[/red]:smile:"}]}
    assert "[red]x[/red]:smile:" in call("list").stdout


def test_a_long_row_is_not_folded_in_a_pipe(stub: Stub, call: Call) -> None:
    stub.routes["GET /lilliput/models"] = 200, {"models": [{"name": "org/" + "x" * 300}]}
    assert len(call("list").stdout.splitlines()) == 2


def test_versions_are_told(stub: Stub, call: Call) -> None:
    stub.routes["GET /api/version"] = 200, {"version": "9.9"}
    assert "9.9" in call("version").stdout
    assert json.loads(call("version", "--json").stdout)["daemon"] == "9.9"
    assert call("--version").stdout.startswith("lilliput ")


@pytest.mark.parametrize("arguments", [("jobs",), ("jobs", "list")])
def test_jobs_are_listed(stub: Stub, call: Call, arguments: tuple[str, ...]) -> None:
    failed = job("failed", error={"code": "disk-full", "message": "no room"})
    running = job(phase="downloading", completed_bytes=GIB, total_bytes=4 * GIB)
    stub.routes["GET /lilliput/jobs"] = 200, {"jobs": [running, failed]}
    out = call(*arguments).stdout
    assert "downloading 1.0 GiB of 4.0 GiB" in out
    assert "no room" in out
    assert [one["state"] for one in json.loads(call(*arguments, "--json").stdout)["jobs"]] == ["running", "failed"]


def test_a_job_is_cancelled(stub: Stub, call: Call) -> None:
    stub.routes["DELETE /lilliput/jobs/j1"] = 200, job("cancelled")
    result = call("jobs", "cancel", "j1", "--json")
    assert json.loads(result.stdout)["state"] == "cancelled"
    assert result.stderr == "job j1 is cancelled\n"


@pytest.mark.parametrize(("name", "route", "key"), [("rm", "models", "removed"), ("stop", "engines", "stopped")])
def test_several_models_are_removed_or_stopped(stub: Stub, call: Call, name: str, route: str, key: str) -> None:
    for model in ("a", "org/b"):
        stub.routes[f"DELETE /lilliput/{route}/{model}"] = 200, {"name": model}
    result = call(name, "a", "org/b", "--json")
    assert json.loads(result.stdout) == {key: ["a", "org/b"]}
    assert len(result.stderr.splitlines()) == 2


def test_an_error_is_told_to_people_and_programs(stub: Stub, call: Call) -> None:
    stub.routes["DELETE /lilliput/models/x"] = not_found("x")
    result = call("rm", "x")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: no model x\nhint: see: lilliput list\n"
    told = call("rm", "x", "--json")
    assert json.loads(told.stdout)["error"]["code"] == "model-not-found"
    assert told.stderr == result.stderr


def test_tuning_shows_what_was_measured_and_what_changes(stub: Stub, call: Call) -> None:
    trial = {"flash_attention": False, "threads": 2, "ubatch_tokens": 512, "tokens_per_s": [96.14, None]}
    tuned = {"model": "smollm2:135m", "flash_attention": False, "trials": [trial], "disturbed": True}
    stub.routes["POST /lilliput/tune"] = 200, tuned
    result = call("tune", "smollm2:135m")
    assert result.exit_code == 0
    assert "96.1" in result.stdout
    assert "from the next load on: flash attention off" in result.stderr
    assert "measure again when it is quiet" in result.stderr
    assert '"flash_attention": false' in call("tune", "smollm2:135m", "--json").stdout
