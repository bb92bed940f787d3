"""Inside a container's memory limit: budget and choice follow the limit, not the host."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from tests.support.control_group import MemoryGroup, memory_group
from tests.support.daemon import DaemonProcess
from tests.support.hub import HubServer
from tests.support.pulling import QUICK

from lilliput_client import Client

pytestmark = pytest.mark.functional

Offer = Callable[..., str]
FRACTION = 0.6


@pytest.fixture
def group() -> Iterator[MemoryGroup]:
    with memory_group() as made:
        yield made


def test_budget_and_choice_follow_the_limit_of_the_container(
    tmp_path: Path, hub: HubServer, offer: Offer, pulling: DaemonProcess, group: MemoryGroup
) -> None:
    repo = offer()
    with Client(pulling.url) as client:
        outside = client.plan(repo, context=8192, kv="f16")
    needs = {variant.name: variant.total_bytes or 0 for variant in outside.variants}
    budget = (needs["Q5_0"] + needs["Q8_0"]) // 2
    limit = int(budget / FRACTION)
    group.limit(limit)
    settings = hub.environment(tmp_path / "hf") | QUICK
    settings |= {"LILLIPUT_MEMORY_USE_FRACTION": str(FRACTION), "LILLIPUT_MEMORY_RESERVE": "0"}
    with DaemonProcess(tmp_path / "data", settings, command=group.command()) as daemon:
        with Client(daemon.url) as client:
            inside = client.plan(repo, context=8192, kv="f16")
        hardware = httpx.get(f"{daemon.url}/lilliput/hardware", timeout=60, trust_env=False).json()
        body = {"model": "smollm2:135m", "prompt": "The sea", "max_tokens": 4}
        answer = httpx.post(f"{daemon.url}/v1/completions", json=body, timeout=60, trust_env=False)
    page = os.sysconf("SC_PAGE_SIZE")
    total = inside.budget["ram"].total_bytes or 0
    assert abs(total - limit) <= page
    assert inside.budget["ram"].budget_bytes == int(total * FRACTION)
    assert hardware["memory"]["limited_by"].endswith(group.folder.name)
    assert hardware["memory"]["host_total_bytes"] == psutil.virtual_memory().total
    assert (outside.chosen, inside.chosen) == ("Q8_0", "Q5_0")
    rejected = next(variant for variant in inside.variants if variant.name == "Q8_0")
    assert not rejected.fits
    assert "over" in (rejected.reason or "")
    assert answer.status_code == 200
