"""What the Hub refuses, how long it is waited for, and files that are not what they seem."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.daemon import DaemonProcess
from tests.support.hub import MEMBER_TOKEN, HubServer
from tests.support.pulling import data_requests, installed, phases, pull, run_cli, trouble_for_data
from tests.support.variants import Variants

from lilliput_client import Client

pytestmark = pytest.mark.functional

Offer = Callable[..., str]
TENSOR_COUNT_AT = slice(8, 16)


@pytest.fixture
def log_in(pulling: DaemonProcess) -> Iterator[Callable[[str], object]]:
    """Puts a token where ``hf auth login`` puts it, for as long as the test runs."""
    place = pulling.data_dir / "hf" / "token"
    place.parent.mkdir(exist_ok=True)
    yield place.write_text
    place.unlink(missing_ok=True)


def test_a_gated_repository_says_what_to_do_and_opens_to_a_token_that_stays_at_the_hub(
    pulling: DaemonProcess, hub: HubServer, offer: Offer, log_in: Callable[[str], object]
) -> None:
    repo = offer("Q4_K_M", gated=True)
    refused = run_cli(pulling, "pull", repo)
    assert refused.returncode == 1
    assert f"error: {repo} is gated: its files are for people who accepted its terms\n" in refused.stderr
    assert f"hint: accept its terms at {hub.url}/{repo}; set HF_TOKEN" in refused.stderr
    assert not hub.log("cdn")

    log_in(MEMBER_TOKEN)
    assert run_cli(pulling, "pull", repo).returncode == 0
    assert {request.token for request in hub.log("/resolve/") if request.status == 302} == {MEMBER_TOKEN}
    assert {request.token for request in hub.log("cdn")} == {None}


def test_a_missing_repository_and_a_bad_token_are_told_apart(
    pulling: DaemonProcess, offer: Offer, log_in: Callable[[str], object]
) -> None:
    missing = run_cli(pulling, "pull", "tiny/nothing-here", "--json")
    assert missing.returncode == 1
    assert json.loads(missing.stdout)["error"]["code"] == "repository-not-found"
    assert "error: the Hub has no repository tiny/nothing-here\nhint: check the spelling" in missing.stderr

    log_in("hf_expired")
    refused = run_cli(pulling, "pull", offer("Q4_K_M"), "--json")
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["error"]["code"] == "bad-token"
    assert "does not accept the token\nhint: set HF_TOKEN to a valid token" in refused.stderr


def test_a_rate_limit_is_waited_for_in_sight(pulling: DaemonProcess, hub: HubServer, offer: Offer) -> None:
    repo = offer("Q4_K_M")
    trouble_for_data(hub, pulling, repo, status=429, headers={"Retry-After": "1"})
    hub.fault("GET /api/models/.*", status=429, headers={"Retry-After": "1"})
    snapshots = pull(pulling, repo)
    assert snapshots[-1].state == "done", snapshots[-1].error
    waits = [job for job in snapshots if job.phase == "waiting"]
    assert phases(snapshots).count("waiting") == 2
    for wait in waits:
        assert wait.message is not None
        assert "asks to slow down (status 429" in wait.message
        assert wait.message.count("trying again in 1 s") == 1
    asked, fetched = [request.at_s for request in hub.log() if request.status == 429]
    answered = [request.at_s for request in hub.log() if request.status == 200]
    assert min(answered) >= asked + 1
    assert max(answered) >= fetched + 1


def test_a_rate_limit_met_while_choosing_is_waited_for_in_sight(
    pulling: DaemonProcess, hub: HubServer, offer: Offer
) -> None:
    repo = offer("Q4_K_M")
    hub.fault("GET /cdn/.*", status=429, headers={"Retry-After": "1"})
    snapshots = pull(pulling, repo)
    assert snapshots[-1].state == "done", snapshots[-1].error
    order = phases(snapshots)
    assert order[order.index("waiting") - 1] == "choosing"
    assert not any(job.completed_bytes for job in snapshots if job.phase == "waiting")


def test_a_rate_limit_without_end_is_an_error(pulling: DaemonProcess, hub: HubServer, offer: Offer) -> None:
    repo = offer("Q4_K_M")
    hub.fault("GET /api/models/.*", count=None, status=429, headers={"Retry-After": "0"})
    patient = run_cli(pulling, "pull", repo, "--json")
    assert patient.returncode == 1
    assert json.loads(patient.stdout)["error"]["code"] == "rate-limited"
    assert 3 <= len(hub.log("/api/models/")) <= 10

    hub.reset()
    hub.fault("GET /api/models/.*", count=None, status=429, headers={"Retry-After": "86400"})
    refused = run_cli(pulling, "pull", repo)
    assert refused.returncode == 1
    assert "asks to slow down (status 429" in refused.stderr
    assert "hint: wait and try again; a token in HF_TOKEN raises the limit" in refused.stderr
    assert len(hub.log("/api/models/")) == 1, "a pause of a day is not waited for"


def test_a_damaged_header_is_refused_before_the_download(
    pulling: DaemonProcess, hub: HubServer, offer: Offer, variants: Variants, tmp_path: Path
) -> None:
    damaged = damage(variants, tmp_path / "damaged-Q8_0.gguf")
    repo = offer(files={damaged.name: str(damaged)})
    refused = pull(pulling, repo)[-1]
    assert refused.error is not None
    assert refused.error.code == "bad-file"
    assert f"{repo}/{damaged.name}" in refused.error.message
    assert not data_requests(hub)


def test_a_damaged_file_of_the_right_digest_is_not_registered(
    pulling: DaemonProcess, hub: HubServer, offer: Offer, variants: Variants, tmp_path: Path
) -> None:
    damaged = damage(variants, tmp_path / "SmolLM2-135M-Instruct-Q8_0.gguf")
    repo = offer(files=variants.served("Q2_K") | {damaged.name: str(damaged)})
    refused = run_cli(pulling, "pull", repo)
    assert refused.returncode == 1
    assert f"taking {repo}:Q8_0 (" in refused.stderr, "only the smallest variant's header was read"
    assert f"error: {repo} was downloaded but cannot be used: " in refused.stderr
    assert "hint: " in refused.stderr
    assert f"{repo}:Q8_0" not in installed(pulling)
    with Client(pulling.url) as client:
        assert client.health() == "ready"
    assert pull(pulling, f"{repo}:Q2_K")[-1].state == "done"


def damage(variants: Variants, target: Path) -> Path:
    """A model whose header promises far more tensors than there are, larger than the sound one it is made of."""
    content = bytearray(variants.path("Q2_K").read_bytes())
    content[TENSOR_COUNT_AT] = (1 << 40).to_bytes(8, "little")
    target.write_bytes(content + bytes(1024 * 1024))
    return target
