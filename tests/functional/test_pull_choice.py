"""Which variant a pull takes under which budget, and what it says; nothing is fetched in vain."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from tests.support.daemon import DaemonProcess
from tests.support.hub import HubServer
from tests.support.pulling import QUICK, ask, data_requests, header_bytes, installed, phases, pull, run_cli
from tests.support.variants import Variants

from lilliput_client import Client

pytestmark = pytest.mark.functional

Offer = Callable[..., str]
HEADER_BYTES = 4 * 1024 * 1024
"""More than one header of these files (1.8 MB), far less than any file."""


@contextmanager
def limited(directory: Path, hub: HubServer, limit_bytes: int) -> Iterator[DaemonProcess]:
    """A daemon of its own whose models may use so much memory."""
    settings = hub.environment(directory / "hf") | QUICK | {"LILLIPUT_MEMORY_LIMIT": str(limit_bytes)}
    with DaemonProcess(directory, settings) as daemon:
        yield daemon
    shutil.rmtree(directory / "hf", ignore_errors=True)


def needs(daemon: DaemonProcess, hub: HubServer, repo: str) -> dict[str, int]:
    """What each variant of a repository needs, in bytes; what this fetched is forgotten."""
    with Client(daemon.url) as client:
        found = {variant.name: variant.total_bytes or 0 for variant in client.plan(repo).variants}
    hub.reset()
    return found


def test_a_plan_tells_all_variants_best_first_with_growing_needs(
    pulling: DaemonProcess, hub: HubServer, offer: Offer, variants: Variants
) -> None:
    repo = offer()
    with Client(pulling.url) as client:
        plan = client.plan(repo)
    assert [variant.name for variant in plan.variants] == ["Q8_0", "Q5_0", "Q4_0", "Q4_1", "Q2_K"]
    assert plan.chosen == "Q8_0"
    assert all(variant.fits and variant.file_bytes == variants.size_bytes(variant.name) for variant in plan.variants)
    by_size = sorted(plan.variants, key=lambda variant: variant.file_bytes or 0)
    assert all((one.total_bytes or 0) < (other.total_bytes or 0) for one, other in pairwise(by_size))
    assert not data_requests(hub)
    assert header_bytes(hub) < HEADER_BYTES


@pytest.mark.parametrize(("best", "next_best"), [("Q5_0", "Q8_0"), ("Q4_0", "Q4_1")])
def test_the_best_variant_within_the_budget_is_taken_explained_and_answers(
    best: str, next_best: str, pulling: DaemonProcess, hub: HubServer, offer: Offer, variants: Variants, tmp_path: Path
) -> None:
    repo = offer()
    need = needs(pulling, hub, repo)
    limit = (need[best] + need[next_best]) // 2
    with limited(tmp_path, hub, limit) as daemon:
        done = run_cli(daemon, "pull", repo)
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        assert f"taking {repo}:{best} (" in done.stderr
        assert "the best quality that fits: needs " in done.stderr
        assert "under the budget" in done.stderr
        assert done.stderr.rstrip().endswith(f"{repo}:{best} is installed")
        assert [request.sent_bytes for request in data_requests(hub)] == [variants.size_bytes(best)]
        assert header_bytes(hub) < HEADER_BYTES
        assert installed(daemon) == {f"{repo}:{best}"}
        assert "Paris" in ask(daemon, repo)


def test_a_tag_goes_before_the_choice(pulling: DaemonProcess, hub: HubServer, offer: Offer, variants: Variants) -> None:
    repo = offer("Q8_0", "Q2_K")
    snapshots = pull(pulling, repo, variant="q2-k")
    last = snapshots[-1]
    assert last.state == "done"
    assert last.result is not None
    assert last.result["name"] == f"{repo}:Q2_K"
    assert str(last.result["reason"]).startswith("asked for, and it fits: needs ")
    told = {job.message for job in snapshots if job.phase == "downloading"}
    assert told == {f"Q2_K (70.6 MiB): {last.result['reason']}"}
    assert [request.sent_bytes for request in data_requests(hub)] == [variants.size_bytes("Q2_K")]


def test_nothing_is_fetched_when_nothing_fits_unless_forced(
    pulling: DaemonProcess, hub: HubServer, offer: Offer, variants: Variants, tmp_path: Path
) -> None:
    repo = offer()
    need = needs(pulling, hub, repo)
    with limited(tmp_path, hub, need["Q2_K"] - 1_000_000) as daemon:
        refused = run_cli(daemon, "pull", repo, "--json")
        assert refused.returncode == 3
        told = json.loads(refused.stdout)["error"]
        assert told["code"] == "does-not-fit"
        assert f"error: {told['message']}\nhint: " in refused.stderr
        assert told["message"].startswith(f"Q2_K of {repo} needs ")
        assert "and nothing there needs less; the budget is " in told["message"]
        assert "(the limit set is " in told["message"]
        assert "force it" in told["hint"]

        tagged = run_cli(daemon, "pull", f"{repo}:Q8_0")
        assert tagged.returncode == 3
        assert f"error: Q8_0 of {repo} needs " in tagged.stderr

        planned = run_cli(daemon, "plan", repo)
        assert planned.returncode == 3
        assert f"no variant of {repo} fits: the smallest needs " in planned.stderr

        assert not data_requests(hub)
        assert header_bytes(hub) < 2 * HEADER_BYTES  # of the smallest variant, and of the one that was asked for
        assert installed(daemon) == set()
        assert not list((tmp_path / "hf").rglob("*.part"))

        forced = run_cli(daemon, "pull", repo, "--force")
        assert forced.returncode == 0, forced.stderr
        assert f"taking {repo}:Q2_K (" in forced.stderr
        assert "forced, although it needs " in forced.stderr
        assert [request.sent_bytes for request in data_requests(hub)] == [variants.size_bytes("Q2_K")]
        loaded = httpx.post(
            f"{daemon.url}/lilliput/engines", json={"model": f"{repo}:Q2_K", "force": True}, timeout=60, trust_env=False
        )
        assert loaded.status_code == 200, loaded.text
        assert "Paris" in ask(daemon, repo)


def test_projectors_and_importance_matrices_are_never_offered(
    pulling: DaemonProcess, hub: HubServer, offer: Offer, variants: Variants
) -> None:
    model = str(variants.path("Q2_K"))
    repo = offer(files={"SmolLM2-Q2_K.gguf": model, "mmproj-SmolLM2-Q8_0.gguf": model, "SmolLM2.imatrix.gguf": model})
    with Client(pulling.url) as client:
        assert [variant.files for variant in client.plan(repo).variants] == [("SmolLM2-Q2_K.gguf",)]
    refused = pull(pulling, f"{repo}:Q8_0")[-1]
    assert refused.error is not None
    assert (refused.error.code, refused.error.hint) == ("variant-not-found", "it has Q2_K")
    assert phases([refused]) == ["resolving"]
    assert not data_requests(hub)
