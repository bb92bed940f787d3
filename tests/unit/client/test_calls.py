"""What each call sends, and what it makes of the answer."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from tests.unit.client.driver import Driver, script

from lilliput_client import Engine, Job, Model, ModelFile, Options, ProtocolError

JOB = {"id": "j1", "state": "running", "model": "m", "completed_bytes": 3, "eta_s": 2, "news_of_tomorrow": [1]}


def sent(
    drive: Driver, answer: Any, method: str, *args: Any, status: int = 200, **options: Any
) -> tuple[httpx.Request, Any]:
    seen: list[httpx.Request] = []
    result = drive(script(httpx.Response(status, json=answer), seen=seen), method, *args, **options)
    return seen[0], result


def test_a_pull_sends_only_what_was_asked(drive: Driver) -> None:
    request, job = sent(drive, JOB, "start_pull", "m", status=202)
    assert (request.method, request.url.path) == ("POST", "/lilliput/pulls")
    assert json.loads(request.content) == {"model": "m"}
    assert job == Job("j1", "running", model="m", completed_bytes=3, eta_s=2.0)


def test_a_pull_sends_its_options(drive: Driver) -> None:
    request, _ = sent(drive, JOB, "start_pull", "m", variant="Q4_K_M", context=4096, use_case="bulk", force=True)
    assert json.loads(request.content) == {
        "model": "m",
        "variant": "Q4_K_M",
        "context": 4096,
        "use_case": "bulk",
        "force": True,
    }


@pytest.mark.parametrize(
    ("method", "verb", "path"),
    [("job", "GET", "/lilliput/jobs/j%2F1"), ("cancel_job", "DELETE", "/lilliput/jobs/j%2F1")],
)
def test_a_job_is_asked_for_by_its_id(drive: Driver, method: str, verb: str, path: str) -> None:
    request, job = sent(drive, JOB, method, "j/1")
    assert (request.method, request.url.raw_path.decode()) == (verb, path)
    assert job.id == "j1"


def test_jobs_are_listed(drive: Driver) -> None:
    request, jobs = sent(drive, {"jobs": [JOB]}, "jobs")
    assert request.url.path == "/lilliput/jobs"
    assert [job.id for job in jobs] == ["j1"]


def test_models_are_listed_with_their_files(drive: Driver) -> None:
    model = {"name": "m", "size_bytes": 5, "files": [{"path": "/a.gguf", "size_bytes": 5, "sha256": None, "more": 1}]}
    _, models = sent(drive, {"models": [model]}, "models")
    assert models == (Model("m", size_bytes=5, files=(ModelFile("/a.gguf", 5),)),)


@pytest.mark.parametrize("name", ["hf.co/org/repo:Q4_K_M", "./file.gguf", "/abs/file.gguf", "a b?c#d"])
@pytest.mark.parametrize(("method", "verb"), [("show", "GET"), ("remove", "DELETE")])
def test_a_model_name_survives_the_path(drive: Driver, name: str, method: str, verb: str) -> None:
    request, _ = sent(drive, {"name": name}, method, name)
    assert request.method == verb
    assert request.url.path == f"/lilliput/models/{name}"


def test_a_shown_model_has_its_files_header(drive: Driver) -> None:
    _, model = sent(drive, {"name": "m", "metadata": {"general.architecture": "llama"}}, "show", "m")
    assert model.metadata == {"general.architecture": "llama"}


def test_an_answer_without_content_is_enough_for_unloading(drive: Driver) -> None:
    assert drive(script(httpx.Response(204)), "unload", "m") is None


def test_engines_are_listed_loaded_and_unloaded(drive: Driver) -> None:
    engine = {"model": "m", "state": "ready", "pid": 7}
    assert sent(drive, {"engines": [engine]}, "engines")[1] == (Engine("m", pid=7),)
    request, loaded = sent(drive, engine, "load", "m")
    assert (request.method, json.loads(request.content), loaded.pid) == ("POST", {"model": "m"}, 7)
    request, _ = sent(drive, engine, "load", "m", slots=2, kv="q8_0", gpu_layers=0, context=None, force=True)
    assert json.loads(request.content) == {"model": "m", "slots": 2, "kv": "q8_0", "gpu_layers": 0, "force": True}
    request, _ = sent(drive, engine, "load", "m", keep_alive="10m")
    assert json.loads(request.content) == {"model": "m", "keep_alive": "10m"}
    assert sent(drive, {}, "unload", "o/m")[0].url.raw_path == b"/lilliput/engines/o%2Fm"
    assert sent(drive, {}, "unload", "m", drain=True)[0].url.raw_path == b"/lilliput/engines/m?drain=true"


@pytest.mark.parametrize(("call", "method"), [("pin", "PUT"), ("unpin", "DELETE")])
def test_models_are_pinned_and_unpinned(drive: Driver, call: str, method: str) -> None:
    request, _ = sent(drive, {}, call, "o/m")
    assert (request.method, request.url.raw_path) == (method, b"/lilliput/pins/o%2Fm")


def test_the_version_is_told(drive: Driver) -> None:
    assert sent(drive, {"version": "1.2"}, "version")[1] == "1.2"


@pytest.mark.parametrize(("status", "state"), [(200, "ready"), (503, "starting")])
def test_a_starting_daemon_is_a_state_and_no_error(drive: Driver, status: int, state: str) -> None:
    assert sent(drive, {"status": state}, "health", status=status)[1] == state


def test_a_chat_is_answered_whole(drive: Driver) -> None:
    answer = {
        "model": "m",
        "choices": [
            {"index": 1, "message": {"role": "assistant", "content": "b"}, "finish_reason": "length"},
            {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"},
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}},
    }
    options = Options(temperature=0.0, seed=7, stop=("x",), extra={"ignore_eos": True})
    request, got = sent(drive, answer, "chat", "m", [{"role": "user", "content": "hi"}], options)
    assert json.loads(request.content) == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0.0,
        "seed": 7,
        "stop": ["x"],
        "ignore_eos": True,
    }
    assert (got.text, got.texts, got.finish_reason) == ("a", ("a", "b"), "stop")
    assert got.usage.prompt_tokens_details.cached_tokens == 1


def test_a_text_is_continued_whole(drive: Driver) -> None:
    request, got = sent(drive, {"model": "m", "choices": [{"text": " world"}]}, "complete", "m", "hello")
    assert (request.url.path, json.loads(request.content)) == ("/v1/completions", {"model": "m", "prompt": "hello"})
    assert got.text == " world"


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b'{"jobs": 3}', b'{"jobs": [{"id": 3}]}', b"\xff"])
def test_an_unreadable_answer_is_a_protocol_error(drive: Driver, content: bytes) -> None:
    with pytest.raises(ProtocolError, match="cannot be read"):
        drive(script(httpx.Response(200, content=content)), "jobs")
