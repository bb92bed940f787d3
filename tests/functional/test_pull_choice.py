"""Which variant a pull takes under which budget, and what it says; nothing is fetched in vain."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from tests.support.daemon import DaemonProcess
from tests.support.hub import HubServer
from tests.support.pulling import (
    QUESTION,
    ask,
    data_requests,
    header_bytes,
    installed,
    limited,
    needs,
    phases,
    pull,
    run_cli,
)
from tests.support.variants import Variants

from lilliput_client import Client

pytestmark = pytest.mark.functional

Offer = Callable[..., str]
HEADER_BYTES = 4 * 1024 * 1024
"""More than one header of these files (1.8 MB), far less than any file."""
SPARE_BYTES = 1_000_000
FEW = ("Q8_0", "Q4_K_M", "Q4_0", "Q2_K")
"""Needs that grow with quality on every machine: Q5_0, which few repack, may take less than Q4_K_M."""


def test_a_plan_tells_all_variants_best_first_with_growing_needs(
    pulling: DaemonProcess, hub: HubServer, offer: Offer, variants: Variants
) -> None:
    repo = offer()
    with Client(pulling.url) as client:
        plan = client.plan(repo)
    assert [variant.name for variant in plan.variants] == ["Q8_0", "Q5_0", "Q4_K_M", "Q4_1", "Q4_0", "Q2_K"]
    assert plan.chosen == "Q8_0"
    assert all(variant.fits and variant.file_bytes == variants.size_bytes(variant.name) for variant in plan.variants)
    by_size = sorted(plan.variants, key=lambda variant: variant.file_bytes or 0)
    # Where the embedding is repacked as output matrix, too, a smaller file may need more.
    once = [one for one in by_size if one.need["ram"].weights <= (one.file_bytes or 0)]
    assert all((one.total_bytes or 0) < (other.total_bytes or 0) for one, other in pairwise(once))
    below = {
        variant.name for variant in plan.variants if "is below Q4_K_M, the floor of general" in str(variant.reason)
    }
    assert below == {"Q4_1", "Q4_0", "Q2_K"}
    assert not data_requests(hub)
    assert header_bytes(hub) < HEADER_BYTES


@pytest.mark.parametrize(("best", "kv"), [("Q5_0", "f16"), ("Q4_K_M", "q8_0")])
def test_the_best_variant_within_the_budget_is_taken_explained_and_answers(
    best: str, kv: str, pulling: DaemonProcess, hub: HubServer, offer: Offer, variants: Variants, tmp_path: Path
) -> None:
    repo = offer(*{"Q8_0", best, "Q4_0", "Q2_K"})
    with limited(tmp_path, hub, needs(pulling, hub, repo, kv=kv)[best] + SPARE_BYTES) as daemon:
        done = run_cli(daemon, "pull", repo)
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        assert f"taking {repo}:{best} (" in done.stderr
        assert "the best quality that fits at 8 tokens/s or more: needs " in done.stderr
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
    repo = offer(*FEW)
    with limited(tmp_path, hub, needs(pulling, hub, repo, kv="q4_0")["Q2_K"] - 1_000_000) as daemon:
        refused = run_cli(daemon, "pull", repo, "--json")
        assert refused.returncode == 3
        told = json.loads(refused.stdout)["error"]
        assert told["code"] == "does-not-fit"
        assert f"error: {told['message']}\nhint: " in refused.stderr
        assert told["message"].startswith(f"{repo}: nothing at or above Q4_K_M fits, the floor of general; ")
        assert "the smallest of them, Q4_K_M, needs " in told["message"]
        assert "nor does anything else (budget of ram: " in told["message"]
        assert ", the limit set is " in told["message"]
        assert "force it" in told["hint"]

        tagged = run_cli(daemon, "pull", f"{repo}:Q8_0")
        assert tagged.returncode == 3
        assert f"error: {repo}: Q8_0 does not fit; the smallest of them, Q8_0, needs " in tagged.stderr

        planned = run_cli(daemon, "plan", repo)
        assert planned.returncode == 3
        assert f"no variant of {repo} fits: nothing at or above Q4_K_M fits" in planned.stderr

        assert not data_requests(hub)
        assert header_bytes(hub) < 2 * HEADER_BYTES  # of the smallest variant, and of the one that was asked for
        assert installed(daemon) == set()
        assert not list((tmp_path / "hf").rglob("*.part"))

        forced = run_cli(daemon, "pull", repo, "--force")
        assert forced.returncode == 0, forced.stderr
        assert f"taking {repo}:Q2_K (" in forced.stderr
        assert "forced, although it needs " in forced.stderr
        assert "over the budget of " in forced.stderr
        assert [request.sent_bytes for request in data_requests(hub)] == [variants.size_bytes("Q2_K")]
        answered = run_cli(daemon, "run", repo, QUESTION, "--temperature", "0", "--max-tokens", "24")
        assert answered.returncode == 0, answered.stderr
        assert "Paris" in answered.stdout
        daemon.stop()
        daemon.start()
        assert "Paris" in ask(daemon, repo), "what was forced once is loaded ever after"


def test_below_the_floor_is_refused_with_what_would_help_and_had_by_name(
    pulling: DaemonProcess, hub: HubServer, offer: Offer, variants: Variants, tmp_path: Path
) -> None:
    repo = offer(*FEW)
    with limited(tmp_path, hub, needs(pulling, hub, repo, kv="q8_0")["Q4_K_M"] - SPARE_BYTES) as daemon:
        refused = run_cli(daemon, "pull", repo)
        assert refused.returncode == 3
        assert "the smallest of them, Q4_K_M, needs " in refused.stderr
        assert re.search(r"; Q4_(K_M|0) would fit with q[48]_0 KV: ", refused.stderr)
        assert "hint: Q4_K_M fits with q4_0 KV: KLD +" in refused.stderr
        assert "which is below the floor of Q4_K_M" in refused.stderr
        assert not data_requests(hub)

        assert run_cli(daemon, "pull", f"{repo}:Q2_K").returncode == 0
        tried = run_cli(daemon, "pull", repo, "--use-case", "experiment")
        assert tried.returncode == 0, tried.stderr
        assert next(request.sent_bytes for request in data_requests(hub)) == variants.size_bytes("Q2_K")
        unknown = run_cli(daemon, "pull", repo, "--use-case", "poetry", "--json")
        assert unknown.returncode == 1
        assert json.loads(unknown.stdout)["error"]["code"] == "invalid-request"
        assert "hint: " in unknown.stderr


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
