"""What the commands print of the daemon's answers, for people and for programs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.unit.client.conftest import Call
from tests.unit.client.stub import MODEL, Stub, job, not_found

GIB = 1024**3

PLAN: dict[str, Any] = {
    "model": "llama3.1:8b",
    "machine": {"cpu": "x"},
    "budget": {
        "total_bytes": 16 * GIB,
        "available_bytes": 9 * GIB,
        "reserve_bytes": GIB,
        "use_fraction": 0.5,
        "limit_bytes": None,
        "budget_bytes": 8 * GIB,
        "because": "50% of 16.0 GiB",
    },
    "context_tokens": 4096,
    "slots": 1,
    "variants": [
        {
            "name": "Q8_0",
            "files": ["a-q8.gguf"],
            "file_bytes": 8 * GIB,
            "need": {"ram": {"weights": 8 * GIB, "kv": GIB, "compute": GIB // 2, "overhead": GIB // 2}},
            "total_bytes": 10 * GIB,
            "fits": False,
            "reason": "needs 2.0 GiB more than there is",
        },
        {
            "name": "Q4_K_M",
            "files": ["a-q4.gguf"],
            "file_bytes": 4 * GIB,
            "need": {"ram": {"weights": 4 * GIB, "kv": GIB, "compute": GIB // 2, "overhead": GIB // 2}},
            "total_bytes": 6 * GIB,
            "fits": True,
            "reason": "the best that fits",
        },
    ],
    "chosen": "Q4_K_M",
}


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


def test_a_plan_marks_what_would_be_taken_and_says_why(stub: Stub, call: Call) -> None:
    stub.routes["GET /lilliput/plan"] = 200, PLAN
    result = call("plan", "llama3.1:8b", "--context", "4096", "--slots", "2")
    assert stub.bodies("GET /lilliput/plan") == ["model=llama3.1%3A8b&context=4096&slots=2"]
    lines = result.stdout.splitlines()
    assert lines[0] == "llama3.1:8b at 4096 tokens of context"
    assert lines[1] == "memory budget 8.0 GiB (50% of 16.0 GiB)"
    big, small = (next(line for line in lines if name in line) for name in ("Q8_0", "Q4_K_M"))
    assert big.split()[0] == "Q8_0"
    assert "> 125%" in big
    assert lines[-2].split() == ["Q8_0", "needs", "2.0", "GiB", "more", "than", "there", "is"]
    assert small.split()[0] == "*"
    assert "75%" in small
    assert result.exit_code == 0


def test_a_plan_is_told_to_programs_as_the_daemon_tells_it(stub: Stub, call: Call) -> None:
    stub.routes["GET /lilliput/plan"] = 200, PLAN
    assert json.loads(call("plan", "llama3.1:8b", "--json").stdout) == PLAN


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_plan_in_which_nothing_fits_has_its_own_exit_code(stub: Stub, call: Call, flags: tuple[str, ...]) -> None:
    variants = [{**variant, "fits": False} for variant in PLAN["variants"]]
    stub.routes["GET /lilliput/plan"] = 200, {**PLAN, "variants": variants, "chosen": None}
    result = call("plan", "llama3.1:8b", *flags)
    assert result.exit_code == 3
    assert "error: no variant of llama3.1:8b fits: the smallest needs 6.0 GiB, the budget is 8.0 GiB" in result.stderr
    assert "hint: " in result.stderr
    assert "Q4_K_M" in result.stdout


def test_hardware_is_shown_fact_by_fact(stub: Stub, call: Call) -> None:
    told = {
        "cpu": {"cores": 2, "simd": ["avx2", "fma"]},
        "memory": {"total_bytes": GIB},
        "accelerators": [{"name": "g"}],
    }
    stub.routes["GET /lilliput/hardware"] = 200, told
    lines = [" ".join(line.split()) for line in call("hardware").stdout.splitlines()]
    assert lines == ["cpu cores 2", "cpu simd avx2, fma", "memory total 1.0 GiB", "accelerators 0 name g"]
    assert json.loads(call("hardware", "--json").stdout) == told


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
