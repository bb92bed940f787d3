"""What the calls of upkeep send, and what the commands show of the answers."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from tests.unit.client.conftest import Call
from tests.unit.client.driver import Driver, script
from tests.unit.client.stub import Stub, environment, job

from lilliput_client import FileReport, Freshness, Garbage, Job, Leftover, ProtocolError, Pruned, file_reports

GIB = 1024**3
SOUND: dict[str, Any] = {"model": "a", "path": "/m/a.gguf", "size_bytes": GIB, "state": "sound"}
DAMAGED: dict[str, Any] = {
    "model": "b",
    "path": "/m/b.gguf",
    "size_bytes": 2 * GIB,
    "state": "damaged",
    "fault": "its SHA-256 is 77, 4e was expected",
    "remedy": "lilliput pull b",
}
OLD: dict[str, Any] = {
    "path": "/data/old.gguf",
    "kind": "model",
    "size_bytes": GIB,
    "age_s": 9 * 86400,
    "why": "no installed model refers to it",
}
YOUNG: dict[str, Any] = {**OLD, "path": "/data/young.gguf", "why": "younger than 7 days"}
FOUND = {"garbage": [OLD], "kept": [YOUNG], "size_bytes": GIB, "older_than_s": 604800}
NEWER: dict[str, Any] = {
    "model": "m",
    "state": "newer",
    "revision": "1" * 40,
    "hub_revision": "2" * 40,
    "changes": [
        {
            "path": "m.gguf",
            "change": "changed",
            "size_bytes": GIB,
            "sha256": "a" * 64,
            "hub_size_bytes": 2 * GIB,
            "hub_sha256": "b" * 64,
        },
        {"path": "n.gguf", "change": "removed"},
    ],
    "reason": "changed: m.gguf",
    "pull": "lilliput pull m",
}
SILENT = {"model": "s", "state": "unreachable", "reason": "the Hub cannot be reached"}
LOCAL = {"model": "l", "state": "local"}


def sent(drive: Driver, answer: Any, method: str, *args: Any, **options: Any) -> tuple[httpx.Request, Any]:
    seen: list[httpx.Request] = []
    result = drive(script(httpx.Response(200, json=answer), seen=seen), method, *args, **options)
    return seen[0], result


def test_a_verification_is_started(drive: Driver) -> None:
    request, started = sent(drive, {"id": "j1", "state": "queued"}, "start_verify", ["a", "b"], hub=True)
    assert (request.method, request.url.path) == ("POST", "/lilliput/verifications")
    assert json.loads(request.content) == {"models": ["a", "b"], "hub": True}
    assert started.id == "j1"


def test_garbage_is_asked_for_and_removed(drive: Driver) -> None:
    request, found = sent(drive, FOUND, "garbage", 60.0)
    assert (request.url.path, request.url.query) == ("/lilliput/garbage", b"older_than_s=60.0")
    assert isinstance(found, Garbage)
    assert found.garbage == (Leftover(**OLD),)
    request, pruned = sent(drive, {"removed": [OLD], "freed_bytes": 5}, "prune", None, ["/data/old.gguf"])
    assert json.loads(request.content) == {"paths": ["/data/old.gguf"]}
    assert pruned == Pruned((Leftover(**OLD),), (), 5)


def test_models_are_compared_by_all_their_names(drive: Driver) -> None:
    request, found = sent(drive, {"models": [NEWER, LOCAL]}, "outdated", ["m", "org/l:Q4"])
    assert request.url.params.get_list("model") == ["m", "org/l:Q4"]
    assert [one.state for one in found] == ["newer", "local"]
    assert isinstance(found[0], Freshness)
    request, _ = sent(drive, {"models": []}, "outdated")
    assert request.url.query == b""


def test_reports_are_read_from_a_job_and_foreign_results_refused() -> None:
    reports = file_reports(Job("j1", "done", result={"files": [SOUND, DAMAGED, {**SOUND, "hub": "differs"}]}))
    assert [report.bad for report in reports] == [False, True, True]
    assert reports[0] == FileReport("a", "/m/a.gguf", GIB, "sound")
    assert file_reports(Job("j1", "queued")) == ()
    with pytest.raises(ProtocolError, match="no checks of files"):
        file_reports(Job("j1", "done", result={"files": [{"path": "x", "size_bytes": 1}]}))


def verified(stub: Stub, *files: dict[str, Any], message: str) -> None:
    stub.routes["POST /lilliput/verifications"] = 202, job("queued", kind="verify")
    done = job("done", kind="verify", phase="done", message=message, result={"files": list(files)})
    stub.routes["GET /lilliput/jobs/j1/events"] = (json.dumps(done),)


def test_verify_shows_each_file_and_what_to_do_about_the_damaged(stub: Stub, call: Call) -> None:
    verified(stub, SOUND, DAMAGED, message="1 of 2 files damaged")
    result = call("verify", "a", "b", "--hub")
    assert stub.bodies("POST /lilliput/verifications") == [{"models": ["a", "b"], "hub": True}]
    assert result.exit_code == 1
    assert [line.split()[:4] for line in result.stdout.splitlines()[:3]] == [
        ["MODEL", "SIZE", "STATE", "HUB"],
        ["a", "1.0", "GiB", "sound"],
        ["b", "2.0", "GiB", "damaged"],
    ]
    assert result.stdout.endswith("\n/m/b.gguf\n  its SHA-256 is 77, 4e was expected\n  remedy: lilliput pull b\n")
    assert result.stderr.endswith("1 of 2 files damaged\n")


def test_verify_ends_well_when_all_is_sound(stub: Stub, call: Call) -> None:
    verified(stub, SOUND, message="all files are sound")
    result = call("verify", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["result"]["files"] == [SOUND]


def test_prune_asks_nobody_without_a_terminal(stub: Stub, call: Call) -> None:
    stub.routes["GET /lilliput/garbage"] = 200, FOUND
    result = call("prune")
    assert result.exit_code == 2
    assert "say --yes" in result.stderr
    assert not stub.bodies("POST /lilliput/prune")


def test_prune_removes_what_it_has_shown(stub: Stub, call: Call) -> None:
    stub.routes["GET /lilliput/garbage"] = 200, FOUND
    skipped = {**YOUNG, "why": "somebody uses it"}
    stub.routes["POST /lilliput/prune"] = 200, {"removed": [OLD], "skipped": [skipped], "freed_bytes": GIB}
    result = call("prune", "--yes", "--older-than", "2w")
    assert result.exit_code == 0
    assert "model file   1.0 GiB   9 days   no installed model refers to it   /data/old.gguf" in result.stdout
    assert result.stderr.splitlines() == [
        "1 file kept (1.0 GiB): younger than 7 days",
        "1 file removed, 1.0 GiB free",
        "kept /data/young.gguf: somebody uses it",
    ]
    age_s = 14 * 86400.0
    assert stub.bodies("GET /lilliput/garbage") == [f"older_than_s={age_s}"]
    assert stub.bodies("POST /lilliput/prune") == [{"older_than_s": age_s, "paths": ["/data/old.gguf"]}]
    assert json.loads(call("prune", "-y", "--json").stdout)["freed_bytes"] == GIB


def test_a_dry_run_only_looks(stub: Stub, call: Call) -> None:
    stub.routes["GET /lilliput/garbage"] = 200, FOUND
    assert json.loads(call("prune", "--dry-run", "--json").stdout)["garbage"][0]["path"] == "/data/old.gguf"
    stub.routes["GET /lilliput/garbage"] = 200, {}
    assert call("prune", "--dry-run").stderr == "there is nothing to remove\n"
    assert json.loads(call("prune", "--json").stdout) == {"removed": [], "skipped": [], "freed_bytes": 0}
    assert not stub.bodies("POST /lilliput/prune")


@pytest.mark.parametrize("text", ["7", "d", "-1d", "1y", "nand", "infd", ""])
def test_a_wrong_age_is_refused(stub: Stub, call: Call, text: str) -> None:
    result = call("prune", "--older-than", text)
    assert result.exit_code == 2
    assert "is no duration" in result.stderr


@pytest.mark.parametrize(("answer", "removed"), [("n", False), ("y", True)])
def test_a_person_is_asked(stub: Stub, answer: str, removed: bool) -> None:
    pytest.importorskip("pty", reason="only POSIX has such terminals", exc_type=ImportError)
    from tests.unit.client.terminal import Terminal

    stub.routes["GET /lilliput/garbage"] = 200, FOUND
    stub.routes["POST /lilliput/prune"] = 200, {"removed": [OLD], "freed_bytes": GIB}
    terminal = Terminal("prune", env=environment(stub.url))
    terminal.expect("Remove 1 file (1.0 GiB)?")
    terminal.type(f"{answer}\n")
    terminal.expect("1 file removed" if removed else "nothing is removed")
    assert terminal.end() == 0
    assert bool(stub.bodies("POST /lilliput/prune")) == removed


def test_outdated_shows_what_changed_and_the_pull(stub: Stub, call: Call) -> None:
    stub.routes["GET /lilliput/outdated"] = 200, {"models": [NEWER, SILENT, LOCAL]}
    result = call("outdated", "m", "s", "l")
    assert result.exit_code == 0
    assert stub.bodies("GET /lilliput/outdated") == ["model=m&model=s&model=l"]
    lines = result.stdout.splitlines()
    assert lines[1].split() == ["m", "newer", "1111111111", "2222222222", "lilliput", "pull", "m"]
    assert "m: changed: m.gguf" in lines
    assert "  changed m.gguf: 1.0 GiB aaaaaaaaaaaa -> 2.0 GiB bbbbbbbbbbbb" in lines
    assert "  removed n.gguf" in lines
    assert "s: the Hub cannot be reached" in lines


@pytest.mark.parametrize(
    ("models", "exit_code"), [([SILENT], 1), ([SILENT, LOCAL], 1), ([LOCAL], 0), ([], 0), ([SILENT, NEWER], 0)]
)
def test_outdated_fails_only_when_nothing_could_be_asked(
    stub: Stub, call: Call, models: list[dict[str, Any]], exit_code: int
) -> None:
    stub.routes["GET /lilliput/outdated"] = 200, {"models": models}
    assert call("outdated", "--json").exit_code == exit_code
