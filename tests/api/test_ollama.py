"""Ollama's dialect: what its clients count on."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import Any

import httpx
import pytest
from tests.api.conftest import Live
from tests.api.fakes import JOB, MODEL, NESTED, Fakes

from lilliput.api.ollama.pull_progress import PullWriter
from lilliput.api.ollama.tags import digest, parameter_size
from lilliput.catalogue import InstalledFile
from lilliput.errors import BadName, DiskFull
from lilliput.pool import OPEN_TERMS
from lilliput.services.job_records import Job, JobError

SHA = "a8cc1361f314" + "0" * 52
FILES = [{"path": "m.gguf", "size_bytes": 1000, "sha256": SHA}]
RUNNING = replace(JOB, state="running", phase="downloading", total_bytes=1000, result={"files": FILES})
DONE = replace(RUNNING, state="done", phase="done", completed_bytes=1000)
ENDING = [{"status": "verifying sha256 digest"}, {"status": "writing manifest"}, {"status": "success"}]


def at(completed_bytes: int) -> Job:
    return replace(RUNNING, completed_bytes=completed_bytes)


def layer(completed_bytes: int | None) -> dict[str, Any]:
    line = {"status": "pulling a8cc1361f314", "digest": f"sha256:{SHA}", "total": 1000}
    return line if completed_bytes is None else {**line, "completed": completed_bytes}


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


async def test_a_pull_tells_its_statuses_in_order(http: httpx.AsyncClient, fakes: Fakes) -> None:
    fakes.jobs.snapshots = [JOB, at(0), DONE]
    answer = await http.post("/api/pull", json={"name": "llama3.1:8b", "insecure": True})
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert lines(answer.text) == [{"status": "pulling manifest"}, layer(None), layer(1000), *ENDING]
    assert fakes.pulls.asked == [{"model": "llama3.1:8b", "variant": None, "terms": OPEN_TERMS}]
    assert fakes.jobs.cancelled == []


def test_progress_is_told_at_most_once_in_sixty_milliseconds() -> None:
    now = 0.0
    writer = PullWriter(clock=lambda: now)
    told = []
    for millisecond in range(200):
        now = millisecond / 1000
        told += lines(writer.event(at(millisecond)).decode())
    assert [line.get("completed") for line in told] == [None, 60, 120, 180]
    assert lines(writer.event(DONE).decode())[0] == layer(1000)


def test_a_model_that_is_there_already_is_one_line_of_progress() -> None:
    writer = PullWriter()
    looked_at = replace(at(0), phase="checking")
    assert lines((writer.event(looked_at) + writer.event(DONE)).decode()) == [layer(1000), *ENDING]


def test_a_file_without_digest_goes_by_its_name() -> None:
    nameless = replace(at(5), result={"files": [{**FILES[0], "sha256": None}]})
    (line,) = lines(PullWriter().event(nameless).decode())
    assert line == {"status": "pulling m.gguf", "total": 1000, "completed": 5}


def test_the_parts_of_a_split_model_are_layers_one_after_the_other() -> None:
    parts = [{"path": f"m-{number}.gguf", "size_bytes": 500, "sha256": f"{number}" * 64} for number in (1, 2, 3)]
    job = replace(RUNNING, total_bytes=1500, result={"files": parts})
    writer = PullWriter(clock=lambda: 0.0)
    told = [writer.event(replace(job, completed_bytes=done)) for done in (0, 100, 500, 900, 1500)]
    told.append(writer.event(replace(job, state="done")))
    *layers, _, _, _ = lines(b"".join(told).decode())
    assert [(line["digest"], line.get("completed")) for line in layers] == [
        (f"sha256:{'1' * 64}", None),
        (f"sha256:{'1' * 64}", 500),
        (f"sha256:{'2' * 64}", None),
        (f"sha256:{'2' * 64}", 500),
        (f"sha256:{'3' * 64}", 500),
    ]
    assert all(line["status"] == f"pulling {line['digest'][7:19]}" and line["total"] == 500 for line in layers)


def test_a_part_that_is_there_is_one_line_between_the_others() -> None:
    parts = [{"path": f"m-{number}.gguf", "size_bytes": 500, "sha256": f"{number}" * 64} for number in (1, 2)]
    job = replace(RUNNING, total_bytes=1000, result={"files": parts}, phase="checking")
    writer = PullWriter(clock=lambda: 0.0)
    told = [writer.event(replace(job, completed_bytes=0)), writer.event(replace(job, completed_bytes=500))]
    told.append(writer.event(replace(job, completed_bytes=500, phase="downloading")))
    assert [(line["digest"][-1], line.get("completed")) for line in lines(b"".join(told).decode())] == [
        ("1", 500),
        ("2", None),
    ]


def test_a_file_that_is_fetched_again_is_told_again() -> None:
    writer = PullWriter(clock=lambda: 0.0)
    told = writer.event(at(1000)) + writer.event(at(0)) + writer.event(DONE)
    assert lines(told.decode()) == [layer(1000), layer(None), layer(1000), *ENDING]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_pull_that_fails_says_why(http: httpx.AsyncClient, fakes: Fakes, stream: bool) -> None:
    error = JobError(DiskFull.code, "the disk has 1 GiB left", "free 3 GiB")
    fakes.jobs.snapshots = [JOB, replace(JOB, state="failed", error=error)]
    answer = await http.post("/api/pull", json={"model": "m", "stream": stream})
    text = {"error": "the disk has 1 GiB left; free 3 GiB"}
    if stream:
        assert lines(answer.text) == [{"status": "pulling manifest"}, text]
    else:
        assert (answer.status_code, answer.json()) == (507, text)


async def test_a_pull_in_one_piece(http: httpx.AsyncClient, fakes: Fakes) -> None:
    fakes.jobs.snapshots = [JOB, at(1), DONE]
    assert (await http.post("/api/pull", json={"model": "m", "stream": False})).json() == {"status": "success"}


async def test_a_pull_somebody_cancels_ends_with_an_error(http: httpx.AsyncClient, fakes: Fakes) -> None:
    fakes.jobs.snapshots = [replace(JOB, state="cancelled")]
    answer = await http.post("/api/pull", json={"model": "m"})
    assert lines(answer.text)[-1] == {"error": "the pull of llama3.1:8b was cancelled"}


async def test_a_bad_name_is_a_real_status(http: httpx.AsyncClient, fakes: Fakes) -> None:
    fakes.pulls.refusal = BadName("'a b' is no model name")
    answer = await http.post("/api/pull", json={"model": "a b"})
    assert (answer.status_code, answer.json()) == (400, {"error": "'a b' is no model name"})
    assert (await http.post("/api/pull", json={})).json() == {"error": "'model' is required"}


def follow(live: Live, fakes: Fakes, stream: bool = True) -> tuple[httpx.Client, threading.Thread]:
    """Ask for a pull in a thread; closing the client ends the connection."""
    client = httpx.Client(base_url=live.url)
    before = len(fakes.pulls.asked)

    def ask() -> None:
        try:
            with client.stream("POST", "/api/pull", json={"model": "m", "stream": stream}) as answer:
                for _ in answer.iter_bytes():
                    pass
        except httpx.TransportError:
            return

    thread = threading.Thread(target=ask)
    thread.start()
    live.wait_until(lambda: len(fakes.pulls.asked) > before and fakes.jobs.known["job-1"].state == "running", 2)
    return client, thread


def hang_up(client: httpx.Client, thread: threading.Thread) -> None:
    for connection in client._transport._pool.connections:  # type: ignore[attr-defined]
        stream = connection._connection._network_stream
        stream.get_extra_info("socket").shutdown(2)
    thread.join(2)
    client.close()
    assert not thread.is_alive()


@pytest.mark.parametrize("stream", [True, False])
def test_the_last_one_who_leaves_ends_the_pull(live: Live, fakes: Fakes, stream: bool) -> None:
    fakes.jobs.snapshots = [RUNNING, None]
    first, second = follow(live, fakes, stream), follow(live, fakes, stream)
    hang_up(*first)
    health = httpx.get(f"{live.url}/health/live")
    assert health.status_code == 200
    assert fakes.jobs.cancelled == []
    hang_up(*second)
    live.wait_until(lambda: fakes.jobs.cancelled == ["job-1"], 2)


def test_a_pull_that_somebody_else_wants_goes_on(live: Live, fakes: Fakes) -> None:
    fakes.jobs.snapshots = [RUNNING, None]
    listener = follow(live, fakes)
    assert httpx.post(f"{live.url}/lilliput/pulls", json={"model": "m"}).status_code == 202
    hang_up(*listener)
    again = follow(live, fakes)
    hang_up(*again)
    httpx.get(f"{live.url}/health/live")
    assert fakes.jobs.cancelled == []


def test_a_pull_that_ran_before_goes_on(live: Live, fakes: Fakes) -> None:
    fakes.jobs.known["job-1"] = RUNNING
    fakes.jobs.snapshots = [RUNNING, None]
    hang_up(*follow(live, fakes))
    httpx.get(f"{live.url}/health/live")
    assert fakes.jobs.cancelled == []


def test_a_server_that_stops_leaves_the_pull_to_its_next_start(live: Live, fakes: Fakes) -> None:
    fakes.jobs.snapshots = [RUNNING, None]
    client, thread = follow(live, fakes)
    live.stop()
    thread.join(2)
    client.close()
    assert not thread.is_alive()
    assert fakes.jobs.cancelled == []


async def test_tags_list_the_newest_first_with_all_that_clients_read(http: httpx.AsyncClient) -> None:
    models = (await http.get("/api/tags")).json()["models"]
    assert [model["name"] for model in models] == [NESTED.name, MODEL.name]
    assert models[1] == {
        "name": MODEL.name,
        "model": MODEL.name,
        "modified_at": "2026-01-01T00:00:00.500000Z",
        "size": 98_000_000,
        "digest": "ab" * 32,
        "details": {
            "parent_model": "",
            "format": "gguf",
            "family": "llama",
            "families": ["llama"],
            "parameter_size": "134.5M",
            "quantization_level": "Q4_1",
        },
    }
    assert (await http.head("/api/tags")).status_code == 200


def test_a_digest_is_always_64_digits_and_depends_on_the_files() -> None:
    unknown = replace(MODEL, files=(InstalledFile(MODEL.path, 5),))
    split = replace(MODEL, files=MODEL.files * 2)
    digests = {digest(model) for model in (MODEL, unknown, split)}
    assert len(digests) == 3
    assert {len(one) for one in digests} == {64}


def test_parameter_counts_read_as_in_ollama() -> None:
    assert [parameter_size(count) for count in (None, 134_515_008, 8_030_261_248)] == ["", "134.5M", "8.0B"]


@pytest.mark.parametrize("key", ["model", "name"])
async def test_delete_answers_200_without_a_body(http: httpx.AsyncClient, fakes: Fakes, key: str) -> None:
    answer = await http.request("DELETE", "/api/delete", json={key: MODEL.name})
    assert (answer.status_code, answer.content) == (200, b"")
    assert MODEL.name not in fakes.models.installed


async def test_version(http: httpx.AsyncClient) -> None:
    assert (await http.get("/api/version")).json() == {"version": "9.8.7"}
    assert (await http.head("/api/version")).status_code == 200
