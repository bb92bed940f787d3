"""One model by many names, split sets, the shared cache, and the way from pull to rm on the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.daemon import DaemonProcess, clean_environment
from tests.support.hub import HubServer
from tests.support.pulling import ask, data_requests, installed, pull, run_cli
from tests.support.variants import Variants

from lilliput_client import Client

pytestmark = pytest.mark.functional

Offer = Callable[..., str]
FETCH = "import sys, huggingface_hub as h; print(h.hf_hub_download(sys.argv[1], sys.argv[2], revision=sys.argv[3]))"


def hf_download(pulling: DaemonProcess, hub: HubServer, repo: str, file: str, revision: str) -> Path:
    """What huggingface_hub itself makes of the daemon's cache."""
    settings = hub.environment(pulling.data_dir / "hf") | {"HF_HUB_DISABLE_XET": "1"}
    environment = clean_environment(pulling.data_dir, settings)
    command = [sys.executable, "-c", FETCH, repo, file, revision]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def revision_of(pulling: DaemonProcess, name: str) -> str:
    with Client(pulling.url) as client:
        return str(client.show(name).revision)


def test_all_names_of_a_variant_mean_one_download(
    pulling: DaemonProcess, hub: HubServer, offer: Offer, variants: Variants
) -> None:
    repo = offer("Q4_K_M", "Q4_0")
    file = variants.path("Q4_0").name
    names = [
        f"hf.co/{repo}:q4-0",
        f"{repo}:Q4_0",
        f"{repo}:q4.0",
        f"https://huggingface.co/{repo}:Q4_0",
        f"{repo}/{file}",
    ]
    ends = [pull(pulling, name)[-1] for name in names]
    assert [(end.state, (end.result or {})["name"]) for end in ends] == [("done", f"{repo}:Q4_0")] * len(names)
    assert [(end.result or {})["up_to_date"] for end in ends] == [False, True, True, True, True]
    assert [request.sent_bytes for request in data_requests(hub)] == [variants.size_bytes("Q4_0")]
    assert {name for name in installed(pulling) if name.startswith(repo)} == {f"{repo}:Q4_0"}


def test_a_split_set_is_one_variant_pulled_whole(
    pulling: DaemonProcess, hub: HubServer, offer: Offer, variants: Variants
) -> None:
    shards = {path.name: str(path) for path in variants.split}
    repo = offer(files=shards | {"mmproj-SmolLM2-F16.gguf": str(variants.path("Q4_0"))})
    whole_bytes = sum(path.stat().st_size for path in variants.split)
    with Client(pulling.url) as client:
        (planned,) = client.plan(repo).variants
    assert (planned.name, planned.files, planned.file_bytes) == ("Q4_K_M", tuple(shards), whole_bytes)

    snapshots = pull(pulling, repo)
    assert snapshots[-1].state == "done", snapshots[-1].error
    assert {job.total_bytes for job in snapshots if job.total_bytes is not None} == {whole_bytes}
    counts = [job.completed_bytes or 0 for job in snapshots]
    assert counts == sorted(counts)
    assert sorted(request.sent_bytes for request in data_requests(hub)) == sorted(
        path.stat().st_size for path in variants.split
    )
    with Client(pulling.url) as client:
        (listed,) = [model for model in client.models() if model.repo == repo]
    assert (listed.name, listed.size_bytes) == (f"{repo}:Q4_K_M", whole_bytes)
    assert [Path(file.path).name for file in listed.files] == list(shards)
    assert "Paris" in ask(pulling, repo)


def test_an_incomplete_split_set_is_not_offered(
    pulling: DaemonProcess, hub: HubServer, offer: Offer, variants: Variants
) -> None:
    first = variants.split[0]
    refused = pull(pulling, offer(files={first.name: str(first)}))[-1]
    assert refused.error is not None
    assert refused.error.code == "variant-not-found"
    assert "only in part: files of its split set are missing" in refused.error.message
    assert not hub.log("cdn")


def test_a_pulled_file_is_what_huggingface_hub_finds(
    pulling: DaemonProcess, hub: HubServer, offer: Offer, variants: Variants
) -> None:
    repo = offer("Q4_K_M")
    assert pull(pulling, repo)[-1].state == "done"
    hub.reset()
    found = hf_download(pulling, hub, repo, variants.path("Q4_K_M").name, revision_of(pulling, f"{repo}:Q4_K_M"))
    assert not hub.log()
    with Client(pulling.url) as client:
        assert str(found) == client.show(f"{repo}:Q4_K_M").files[0].path


def test_a_file_that_huggingface_hub_fetched_is_used(
    pulling: DaemonProcess, hub: HubServer, offer: Offer, variants: Variants
) -> None:
    repo = offer("Q4_K_M")
    found = hf_download(pulling, hub, repo, variants.path("Q4_K_M").name, "main")
    hub.reset()
    last = pull(pulling, repo)[-1]
    assert last.state == "done", last.error
    assert not hub.log("cdn")
    with Client(pulling.url) as client:
        assert client.show(f"{repo}:Q4_K_M").files[0].path == str(found)


def test_the_command_line_goes_from_plan_to_rm(
    pulling: DaemonProcess, hub: HubServer, offer: Offer, variants: Variants
) -> None:
    repo = offer("Q4_K_M", "Q4_0")
    name, size_bytes = f"{repo}:Q4_K_M", variants.size_bytes("Q4_K_M")

    planned = run_cli(pulling, "plan", repo)
    assert planned.returncode == 0, planned.stderr
    assert f"{repo} at 2048 tokens of context for 2 requests at once\nmemory budget " in planned.stdout
    assert "the best quality that fits at 8 tokens/s or more: needs " in planned.stdout
    assert json.loads(run_cli(pulling, "plan", repo, "--json").stdout)["chosen"] == "Q4_K_M"

    done = run_cli(pulling, "pull", repo, "--json")
    assert done.returncode == 0, done.stderr
    job = json.loads(done.stdout)
    assert (job["state"], job["result"]["name"], job["completed_bytes"]) == ("done", name, size_bytes)
    lines = done.stderr.splitlines()
    assert f"taking {name} (87.1 MiB): {job['result']['reason']}" in lines
    assert any(line.startswith(f"verifying {variants.path('Q4_K_M').name}") for line in lines)
    assert lines[-1] == f"{name} is installed"
    assert "\r" not in done.stderr, "a bar is for terminals"
    assert run_cli(pulling, "pull", repo).stderr.splitlines()[-1] == f"{name} is up to date"

    row = next(line for line in run_cli(pulling, "list").stdout.splitlines() if line.startswith(name))
    assert row.split()[:5] == [name, "Q4_K_M", "87.1", "MiB", "hub"]
    (entry,) = [one for one in json.loads(run_cli(pulling, "list", "--json").stdout)["models"] if one["name"] == name]
    shown = run_cli(pulling, "show", name)
    assert entry["digest"][:16] in shown.stdout
    assert entry["files"][0]["path"] in shown.stdout
    assert f"{repo}@{entry['revision'][:12]}" in shown.stdout

    removed = run_cli(pulling, "rm", name)
    assert (removed.returncode, removed.stderr) == (0, f"{name} is removed\n")
    assert not Path(entry["files"][0]["path"]).exists()
    folder = pulling.data_dir / "hf" / "hub" / f"models--{repo.replace('/', '--')}"
    assert not [path for path in folder.rglob("*") if path.is_file()]
    assert run_cli(pulling, "show", name).returncode == 1
