"""Installed models against a Hub that moves on, loses repositories, or is silent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.functional.conftest import MODEL
from tests.support.daemon import DaemonProcess
from tests.support.hub import HubServer, RepositoryConfig
from tests.support.pulling import QUICK, pull, run_cli
from tests.support.variants import Variants

pytestmark = pytest.mark.functional

Offer = Callable[..., str]


@pytest.fixture
def daemon(tmp_path: Path, hub: HubServer) -> Iterator[DaemonProcess]:
    with DaemonProcess(tmp_path / "data", hub.environment(tmp_path / "hf") | QUICK) as started:
        yield started


def outdated(daemon: DaemonProcess, *arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    done = run_cli(daemon, "outdated", *arguments, "--json")
    return done.returncode, {one["model"]: one for one in json.loads(done.stdout)["models"]}


def test_models_are_told_up_to_date_newer_and_gone_and_the_pull_updates(
    daemon: DaemonProcess, hub: HubServer, offer: Offer, variants: Variants, tmp_path: Path
) -> None:
    same, moved, lost = offer("Q2_K"), offer("Q4_0", license="mit"), offer("Q2_K")
    names = {repo: f"{repo}:{'Q4_0' if repo == moved else 'Q2_K'}" for repo in (same, moved, lost)}
    for name in names.values():
        assert pull(daemon, name)[-1].state == "done"
    code, found = outdated(daemon)
    assert (code, {one["state"] for one in found.values()}) == (0, {"up-to-date"})
    assert set(found) == set(names.values()), "the embedded model came from no Hub"

    path = variants.path("Q4_0").name
    changed = tmp_path / "changed.gguf"
    changed.write_bytes(variants.path("Q4_0").read_bytes() + bytes(32))
    hub.add(moved, RepositoryConfig({path: str(changed)}))
    readme = tmp_path / "README.md"
    readme.write_text("news")
    hub.add(same, RepositoryConfig(variants.served("Q2_K") | {"README.md": str(readme)}))
    hub.add(lost, RepositoryConfig(variants.served("Q2_K"), private=True))

    code, found = outdated(daemon)
    assert code == 0
    states = {name: found[name]["state"] for name in names.values()}
    assert states == {names[same]: "up-to-date", names[moved]: "newer", names[lost]: "gone"}
    assert found[names[same]]["revision"] != found[names[same]]["hub_revision"]
    (change,) = found[names[moved]]["changes"]
    assert (change["path"], change["change"]) == (path, "changed")
    assert change["hub_size_bytes"] - change["size_bytes"] == 32
    told = run_cli(daemon, "outdated", moved).stdout
    assert f"lilliput pull {names[moved]}" in told
    assert f"changed {path}: " in told
    assert "the Hub has no repository" in run_cli(daemon, "outdated", lost).stdout

    assert run_cli(daemon, "pull", names[moved]).returncode == 0
    assert outdated(daemon, moved)[1][names[moved]]["state"] == "up-to-date"


def test_a_silent_hub_is_told_and_only_where_nothing_could_be_asked_it_is_a_failure(
    daemon: DaemonProcess, hub: HubServer, offer: Offer
) -> None:
    repos = [offer("Q2_K"), offer("Q2_K")]
    for repo in repos:
        assert pull(daemon, f"{repo}:Q2_K")[-1].state == "done"
    hub.fault(f"GET /api/models/{repos[0]}.*", status=503)
    code, found = outdated(daemon)
    states = [found[f"{repo}:Q2_K"]["state"] for repo in repos]
    assert (code, states) == (0, ["unreachable", "up-to-date"])
    for repo in repos:
        hub.fault(f"GET /api/models/{repo}.*", status=503)
    code, found = outdated(daemon)
    assert (code, {one["state"] for one in found.values()}) == (1, {"unreachable"})
    assert all("answers 503" in one["reason"] for one in found.values())
    assert outdated(daemon, MODEL) == (
        0,
        {MODEL: found_local(MODEL)},
    )
    refused = run_cli(daemon, "outdated", "llama9")
    assert refused.returncode == 1
    assert "'llama9' is not installed" in refused.stderr


def found_local(name: str) -> dict[str, Any]:
    nothing = dict.fromkeys(("repo", "revision", "hub_revision", "pull"))
    return {**nothing, "model": name, "state": "local", "changes": [], "reason": "it did not come from the Hub"}
