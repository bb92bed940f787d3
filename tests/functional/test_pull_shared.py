"""Pulls that share a download, and the dialect whose clients expect an exact order of lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any

import httpx
import pytest
from tests.support.daemon import DaemonProcess
from tests.support.hub import HubServer
from tests.support.pulling import data_requests, eventually, installed, pull, pull_until, trouble_for_data
from tests.support.variants import Variants

from lilliput_client import Client, Job

pytestmark = pytest.mark.functional

Offer = Callable[..., str]
SLOW_BYTES_PER_S = 40_000_000


@pytest.fixture
def api(pulling: DaemonProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=pulling.url, timeout=60, trust_env=False) as client:
        yield client


def state_of(pulling: DaemonProcess, repo: str) -> str:
    with Client(pulling.url) as client:
        return [job.state for job in client.jobs() if job.model.startswith(repo)][-1]


def test_two_pulls_of_one_model_are_one_job_and_one_download(
    pulling: DaemonProcess, hub: HubServer, offer: Offer, variants: Variants
) -> None:
    repo = offer("Q4_K_M")
    trouble_for_data(hub, pulling, repo, bytes_per_s=SLOW_BYTES_PER_S)
    ends: list[Job] = []
    pulls = [Thread(target=lambda: ends.append(pull(pulling, repo)[-1])) for _ in range(2)]
    for one in pulls:
        one.start()
    for one in pulls:
        one.join()
    assert [end.state for end in ends] == ["done", "done"]
    assert ends[0].id == ends[1].id
    assert [request.sent_bytes for request in data_requests(hub)] == [variants.size_bytes("Q4_K_M")]


def test_two_jobs_for_one_file_share_its_download(
    pulling: DaemonProcess, hub: HubServer, offer: Offer, variants: Variants
) -> None:
    repo = offer("Q4_K_M")
    trouble_for_data(hub, pulling, repo, bytes_per_s=SLOW_BYTES_PER_S)
    first = pull_until(pulling, repo, lambda job: (job.completed_bytes or 0) > 10_000_000)
    second = pull(pulling, f"{repo}:Q4_K_M")[-1]
    assert second.state == "done", second.error
    assert second.id != first.id
    with Client(pulling.url) as client:
        eventually(lambda: client.job(first.id).state == "done")
    assert [request.sent_bytes for request in data_requests(hub)] == [variants.size_bytes("Q4_K_M")]


def test_lines_come_in_the_exact_order(
    api: httpx.Client, pulling: DaemonProcess, hub: HubServer, offer: Offer, variants: Variants
) -> None:
    repo = offer("Q4_K_M")
    trouble_for_data(hub, pulling, repo, bytes_per_s=SLOW_BYTES_PER_S)
    lines: list[dict[str, Any]] = []
    with api.stream("POST", "/api/pull", json={"model": repo}) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].partition(";")[0] == "application/x-ndjson"
        lines += (json.loads(line) for line in response.iter_lines())
    (digest,) = {request.path.removeprefix("/cdn/") for request in data_requests(hub)}
    layer = f"pulling {digest[:12]}"
    statuses = [line["status"] for line in lines]
    assert statuses[0] == "pulling manifest"
    assert statuses[-3:] == ["verifying sha256 digest", "writing manifest", "success"]
    progress = lines[1:-3]
    assert len(progress) > 5
    size_bytes = variants.size_bytes("Q4_K_M")
    for line in progress:
        assert (line["status"], line["digest"], line["total"]) == (layer, f"sha256:{digest}", size_bytes)
    counts = [line.get("completed", 0) for line in progress]
    assert counts == sorted(counts)
    assert counts[-1] == size_bytes
    assert [set(line) for line in (lines[0], *lines[-3:])] == [{"status"}] * 4

    again = [json.loads(line) for line in api.post("/api/pull", json={"name": repo}).text.splitlines()]
    whole = {"status": layer, "digest": f"sha256:{digest}", "total": size_bytes, "completed": size_bytes}
    assert again == [lines[0], whole, *lines[-3:]]
    assert api.post("/api/pull", json={"model": repo, "stream": False}).json() == {"status": "success"}
    assert [request.sent_bytes for request in data_requests(hub)] == [size_bytes]


def test_closing_the_stream_cancels_and_keeps_what_is_there(
    api: httpx.Client, pulling: DaemonProcess, hub: HubServer, offer: Offer, variants: Variants
) -> None:
    repo = offer("Q4_K_M")
    trouble_for_data(hub, pulling, repo, bytes_per_s=SLOW_BYTES_PER_S)
    with api.stream("POST", "/api/pull", json={"model": repo}) as response:
        for line in response.iter_lines():
            if json.loads(line).get("completed", 0) > 10_000_000:
                break
    eventually(lambda: state_of(pulling, repo) == "cancelled", timeout_s=3)
    assert f"{repo}:Q4_K_M" not in installed(pulling)
    assert pull(pulling, repo)[-1].state == "done"
    first, second = data_requests(hub)
    assert first.sent_bytes < variants.size_bytes("Q4_K_M")
    assert second.range is not None


def test_a_pull_that_somebody_else_wants_outlives_a_closed_stream(
    api: httpx.Client, pulling: DaemonProcess, hub: HubServer, offer: Offer
) -> None:
    repo = offer("Q4_K_M")
    trouble_for_data(hub, pulling, repo, bytes_per_s=SLOW_BYTES_PER_S)
    job = pull_until(pulling, repo, lambda job: (job.completed_bytes or 0) > 1_000_000)
    with api.stream("POST", "/api/pull", json={"model": repo}) as response:
        assert json.loads(next(response.iter_lines())) == {"status": "pulling manifest"}
    with Client(pulling.url) as client:
        *_, ended = client.follow_job(job.id)
    assert ended.state == "done"
    assert len(data_requests(hub)) == 1


def test_errors_have_the_dialects_shape(api: httpx.Client) -> None:
    first, *rest = api.post("/api/pull", json={"model": "tiny/nothing-here"}).text.splitlines()
    assert json.loads(first) == {"status": "pulling manifest"}
    (error,) = (json.loads(line) for line in rest)
    assert set(error) == {"error"}
    assert error["error"].startswith("the Hub has no repository tiny/nothing-here")

    whole = api.post("/api/pull", json={"model": "tiny/nothing-here", "stream": False})
    assert whole.status_code == 404
    assert whole.json() == error
    for body in ({"model": "a b"}, {"model": ""}, {}):
        refused = api.post("/api/pull", json=body)
        assert refused.status_code == 400
        assert set(refused.json()) == {"error"}
    missing = api.request("DELETE", "/api/delete", json={"model": "tiny/nothing-here"})
    assert (missing.status_code, set(missing.json())) == (404, {"error"})
