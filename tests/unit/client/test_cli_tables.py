"""What the commands print of the daemon's answers, for people and for programs."""

from __future__ import annotations

import json
import time
from typing import Any

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
    assert call("ps").stdout.splitlines()[1].split() == ["m", "ready", "2.0", "GiB", "4096", "4", "1/0", "-", "-"]
    assert json.loads(call("ps", "--json").stdout)["engines"][0]["waiting"] == 0
    stub.routes["GET /lilliput/engines"] = 200, {"engines": [engine | {"degraded": ["a KV cache in q8_0", "less"]}]}
    assert call("ps").stdout.splitlines()[2:] == [
        "m: memory was short: a KV cache in q8_0",
        "m: memory was short: less",
    ]
    assert json.loads(call("ps", "--json").stdout)["engines"][0]["degraded"] == ["a KV cache in q8_0", "less"]
    stub.routes["GET /lilliput/engines"] = 200, {"engines": [engine | {"settings": {"draft": "small"}}, engine]}
    header, drafted, _ = call("ps").stdout.splitlines()
    assert header.split()[-2:] == ["DRAFT", "MODEL"]
    assert drafted.split()[-1] == "small"


def test_what_loads_shows_how_far_and_what_failed_says_why(stub: Stub, call: Call) -> None:
    loading = {"model": "big", "state": "loading", "progress": 0.42}
    failed = {"model": "bad", "state": "failed", "error": "it [refused]", "log_tail": ["one", "two", "three", "four"]}
    stub.routes["GET /lilliput/engines"] = 200, {"engines": [loading, failed]}
    _, first, second, why, *tail = call("ps").stdout.splitlines()
    assert first.split()[1:3] == ["loading", "42%"]
    assert second.split()[1] == "failed"
    assert why == "bad failed -: it [refused]"
    assert tail == ["  two", "  three", "  four"]


@pytest.mark.parametrize(
    ("fields", "told"),
    [({"pinned": True, "expires_at": None}, "pinned"), ({"expires_at": 7210}, "in 2 h 00 min"), ({}, "-")],
)
def test_it_is_told_how_long_an_engine_stays(stub: Stub, call: Call, fields: dict[str, Any], told: str) -> None:
    if fields.get("expires_at"):
        fields = {"expires_at": time.time() + fields["expires_at"]}
    stub.routes["GET /lilliput/engines"] = 200, {"engines": [{"model": "m", **fields}]}
    assert call("ps").stdout.splitlines()[1].endswith(f" {told}")


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


TRIAL = {
    "flash_attention": False,
    "threads": 2,
    "batch_threads": 2,
    "ubatch_tokens": 512,
    "tokens_per_s": [[64, 96.14], [2048, 71.3]],
    "wide_tokens_per_s": [[4, 138.0], [8, 151.9]],
}
TUNED = {
    "model": "smollm2:135m",
    "settings": {"flash_attention": False, "threads": 3},
    "measured": {"flash_attention": False},
    "chosen": {"threads": 3},
    "trials": [TRIAL],
    "disturbed": True,
}
TUNING = "/lilliput/tunings/smollm2:135m"


def test_tuning_tells_trials_as_they_end_and_what_changes(stub: Stub, call: Call) -> None:
    stub.routes["POST /lilliput/tune"] = (json.dumps({"trial": TRIAL}), json.dumps({"tuning": TUNED}), "[DONE]")
    result = call("tune", "smollm2:135m")
    assert result.exit_code == 0
    assert stub.bodies("POST /lilliput/tune") == [{"model": "smollm2:135m", "stream": True}]
    told, *_, last = result.stderr.splitlines()
    assert told == (
        "flash attention off, 2 threads, micro-batch 512: "
        "96.1 tokens/s behind 64, 71.3 tokens/s behind 2048, 151.9 of 8 together"
    )
    assert last == "from the next load on: flash attention off, threads 3"
    assert "measure again when it is quiet" in result.stderr
    assert "138.0" in result.stdout
    assert "off (measured)" in result.stdout
    assert "3 (chosen)" in result.stdout
    assert '"threads": 3' in call("tune", "smollm2:135m", "--json").stdout


def test_what_is_known_is_shown_without_measuring(stub: Stub, call: Call) -> None:
    stub.routes[f"GET {TUNING}"] = 200, {"model": "smollm2:135m"}
    result = call("tune", "smollm2:135m", "--show")
    assert "nothing was measured yet" in result.stderr
    assert "the usual settings" in result.stderr


def test_settings_are_chosen_and_cleared(stub: Stub, call: Call) -> None:
    stub.routes[f"PATCH {TUNING}"] = stub.routes[f"DELETE {TUNING}"] = 200, TUNED
    chosen = ("--set", "flash-attention=off", "--set", "threads=4", "--set", "width=auto")
    assert call("tune", "smollm2:135m", *chosen).exit_code == 0
    assert stub.bodies(f"PATCH {TUNING}") == [{"flash_attention": False, "threads": 4, "width": None}]
    assert call("tune", "smollm2:135m", "--clear").exit_code == 0
    assert len(stub.bodies(f"DELETE {TUNING}")) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--set", "speed=9"), "'speed' is none of flash_attention, threads"),
        (("--set", "threads=many"), "threads is a number, or auto; not 'many'"),
        (("--set", "repack=2"), "repack is on or off, or auto; not '2'"),
        (("--show", "--clear"), "exclude each other"),
    ],
)
def test_a_choice_that_makes_no_sense_is_told(call: Call, arguments: tuple[str, ...], told: str) -> None:
    result = call("tune", "smollm2:135m", *arguments)
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.replace("│", " ").split())


def test_an_error_that_ends_a_tune_is_told(stub: Stub, call: Call) -> None:
    error = {"code": "engine-error", "message": "m could not be measured", "hint": "load it first"}
    stub.routes["POST /lilliput/tune"] = (json.dumps({"trial": TRIAL}), json.dumps({"error": error}))
    result = call("tune", "smollm2:135m")
    assert result.exit_code == 1
    assert "error: m could not be measured\nhint: load it first" in result.stderr
