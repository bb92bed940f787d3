"""A Hub that is slow, and one that goes away in the middle of a pull: it is shown, and nothing is half installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.daemon import DaemonProcess
from tests.support.hub import HubServer, RepositoryConfig
from tests.support.pulling import QUICK, eventually, installed, pull_until, trouble_for_data
from tests.support.variants import Variants

from lilliput_client import Client, Job

pytestmark = pytest.mark.functional

REPOSITORY = "tiny/SmolLM2-GGUF"
MB = 1_000_000


def test_a_slow_hub_is_shown_and_one_that_goes_away_is_waited_for_in_sight(tmp_path: Path, variants: Variants) -> None:
    seen: list[Job] = []
    with (
        HubServer({REPOSITORY: RepositoryConfig(variants.served("Q4_K_M"))}) as hub,
        DaemonProcess(tmp_path, hub.environment(tmp_path / "hf") | QUICK) as daemon,
        Client(daemon.url) as client,
    ):
        trouble_for_data(hub, daemon, REPOSITORY, bytes_per_s=4 * MB)
        job = pull_until(daemon, REPOSITORY, lambda job: (job.completed_bytes or 0) > 4 * MB)
        eventually(lambda: bool(client.job(job.id).eta_s))
        slow = client.job(job.id)
        assert (slow.phase, slow.state) == ("downloading", "running")
        assert slow.rate_bytes_s is not None
        assert slow.rate_bytes_s < 16 * MB
        hub.stop()
        for snapshot in client.follow_job(job.id):
            seen.append(snapshot)
            if snapshot.phase == "waiting":
                break
        assert seen[-1].message is not None
        assert "trying again in" in seen[-1].message
        assert client.health() == "ready"
        assert client.cancel_job(job.id).state == "cancelled"
        assert installed(daemon) == set()
        assert not list((tmp_path / "hf").rglob("snapshots/*/*.gguf"))
        (kept,) = (tmp_path / "hf").rglob("*.part")
        assert kept.stat().st_size >= 4 * MB
        assert "Traceback" not in daemon.log
