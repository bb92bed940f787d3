"""Every error, in the shape of the route's family, with a status by class."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest
from tests.api.fakes import MODEL, Fakes

from lilliput import errors
from lilliput.api.errors import encode, fault_of, fault_of_code

CHAT = {"model": MODEL.name, "messages": [{"role": "user", "content": "hi"}]}


def all_errors() -> list[type[errors.LilliputError]]:
    found: list[type[errors.LilliputError]] = [errors.LilliputError]
    for kind in found:
        found.extend(kind.__subclasses__())
    return found


def made(kind: type[errors.LilliputError]) -> errors.LilliputError:
    if kind is errors.ContextExceeded:
        return errors.ContextExceeded(9, 8)
    extra: dict[str, Any] = {}
    if kind is errors.DoesNotFit:
        extra = {"need_bytes": 2, "budget_bytes": 1}
    if issubclass(kind, errors.Busy):
        extra = {"retry_after_s": 1.5}
    return kind("what happened", hint="what to do", **extra)


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_every_error_has_a_status_and_lasting_ones_are_not_tried_again(kind: type[errors.LilliputError]) -> None:
    fault = fault_of(made(kind))
    assert 400 <= fault.status < 600
    passing = {"busy", "engine-died", "shutting-down"}
    if fault.code == "deadline-exceeded" or (fault.status >= 500 and fault.code not in passing):
        assert fault.headers["x-should-retry"] == "false"
    else:
        assert "x-should-retry" not in fault.headers
    assert fault_of_code(fault.code, "m", None).status == fault.status


def test_busy_says_when_to_come_back() -> None:
    headers = fault_of(errors.Busy("full", retry_after_s=0.25)).headers
    assert headers == {"retry-after": "1", "retry-after-ms": "250"}


async def test_the_three_shapes_of_a_missing_model(http: httpx.AsyncClient) -> None:
    openai = await http.post("/v1/chat/completions", json={**CHAT, "model": "none"})
    ollama = await http.request("DELETE", "/api/delete", json={"model": "none"})
    native = await http.get("/lilliput/models/none")
    assert [r.status_code for r in (openai, ollama, native)] == [404] * 3
    message, hint = "model 'none' is not installed", "lilliput pull it"
    assert openai.json() == {
        "error": {
            "message": f"{message}; {hint}",
            "type": "invalid_request_error",
            "param": None,
            "code": "model_not_found",
        }
    }
    assert ollama.json() == {"error": f"{message}; {hint}"}
    assert native.json() == {"error": {"code": "model-not-found", "message": message, "hint": hint}}
    assert len({r.headers["x-request-id"] for r in (openai, ollama, native)}) == 3


@pytest.mark.parametrize("path", ["/v1/nowhere", "/api/nowhere", "/lilliput/nowhere", "/nowhere"])
async def test_unknown_routes_and_wrong_methods_are_told_in_the_familys_shape(
    http: httpx.AsyncClient, path: str
) -> None:
    answer = await http.get(path)
    assert answer.status_code == 404
    text = answer.json()["error"] if path.startswith("/api") else answer.json()["error"]["message"]
    assert f"GET {path}" in text


async def test_a_wrong_method_names_the_right_one(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/chat/completions")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["error"]["code"] == "method_not_allowed"


async def test_broken_json_is_a_400_that_says_where(http: httpx.AsyncClient) -> None:
    headers = {"content-type": "application/json"}
    openai = await http.post("/v1/chat/completions", content=b'{"model": ', headers=headers)
    assert (openai.status_code, openai.json()["error"]["type"]) == (400, "invalid_request_error")
    assert "not valid JSON" in openai.json()["error"]["message"]
    ollama = await http.post("/api/pull", content=b"[1,", headers=headers)
    assert "not valid JSON" in ollama.json()["error"]
    native = await http.post("/lilliput/pulls", content=b"", headers=headers)
    assert native.json()["error"]["message"] == "a JSON body is required"


async def test_a_failure_nobody_foresaw_is_logged_and_told_without_its_inside(
    http: httpx.AsyncClient, fakes: Fakes, caplog: pytest.LogCaptureFixture
) -> None:
    fakes.generator.refusal = RuntimeError("secret detail")
    with caplog.at_level(logging.ERROR):
        answer = await http.post("/v1/chat/completions", json=CHAT)
    assert answer.status_code == 500
    assert "secret" not in answer.text
    request_id = answer.headers["x-request-id"]
    assert request_id in answer.json()["error"]["message"]
    assert answer.headers["x-should-retry"] == "false"
    assert any(request_id in record.getMessage() and record.exc_info for record in caplog.records)


async def test_a_failure_in_mid_stream_is_told_without_its_inside_and_the_stream_ends(
    http: httpx.AsyncClient, fakes: Fakes, caplog: pytest.LogCaptureFixture
) -> None:
    fakes.generator.steps = [RuntimeError("secret detail")]
    answer = await http.post("/v1/chat/completions", json={**CHAT, "stream": True})
    assert answer.status_code == 200
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"] in answer.text
    assert answer.text.endswith("data: [DONE]\n\n")
    assert "secret detail" in caplog.text


async def test_text_that_is_no_unicode_is_answered_all_the_same(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/completions", content=b'{"model": "\\ud800", "prompt": "x"}')
    assert answer.status_code in {400, 404}
    assert encode({"error": ["\ud800"]}) == b'{"error":["\xef\xbf\xbd"]}'
    bad = await http.post("/v1/completions", content=b'{"model": "smollm2:135m", "prompt": "\\ud800"}')
    assert (bad.status_code, bad.json()["error"]["param"]) == (400, "prompt")


async def test_deep_nesting_is_refused(http: httpx.AsyncClient) -> None:
    for depth in (100, 100_000):
        deep = b'{"model": "m", "messages": ' + b"[" * depth + b"]" * depth + b"}"
        answer = await http.post("/v1/chat/completions", content=deep)
        assert answer.status_code == 400
    assert "error" in answer.json()
