"""Every dialect's error shape, and the door, on a real daemon."""

from __future__ import annotations

import httpx
import pytest
from tests.functional.conftest import MODEL

pytestmark = pytest.mark.functional

SEA = [{"role": "user", "content": "Tell me about the sea."}]


def openai_error(answer: httpx.Response) -> dict[str, str | None]:
    error: dict[str, str | None] = answer.json()["error"]
    assert set(answer.json()) == {"error"}
    assert set(error) == {"message", "type", "param", "code"}
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"].startswith("req_")
    return error


@pytest.mark.parametrize(
    ("body", "status", "param", "words"),
    [
        pytest.param(b"{", 400, None, "not valid JSON", id="broken JSON"),
        pytest.param(b"", 400, None, "a JSON body is required", id="no body"),
        pytest.param(b'{"messages": []}', 400, "model", "'model' is required", id="no model"),
        pytest.param(b'{"model": "smollm2:135m", "messages": []}', 400, "messages", "messages", id="no messages"),
        pytest.param(b'{"model": "smollm2:135m", "messages": [1], "n": 0}', 400, "n", "'n'", id="n is 0"),
    ],
)
def test_openai_routes_answer_faults_as_openai_does(
    http: httpx.Client, body: bytes, status: int, param: str | None, words: str
) -> None:
    answer = http.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    error = openai_error(answer)
    assert (answer.status_code, error["type"], error["param"]) == (status, "invalid_request_error", param)
    assert words in (error["message"] or "")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/nothing", 404), ("GET", "/v1/models/nothing", 404), ("DELETE", "/v1/chat/completions", 405)],
)
def test_openai_routes_that_are_not_there(http: httpx.Client, method: str, path: str, status: int) -> None:
    answer = http.request(method, path)
    assert answer.status_code == status
    openai_error(answer)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/api/nothing", None, 404),
        ("DELETE", "/api/delete", {"model": "nothing"}, 404),
        ("POST", "/api/pull", {"model": ""}, 400),
    ],
)
def test_ollama_routes_answer_faults_as_a_line_of_text(
    http: httpx.Client, method: str, path: str, body: object, status: int
) -> None:
    answer = http.request(method, path, json=body)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert isinstance(answer.json()["error"], str)
    assert answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/lilliput/nothing", None, 404, "not-found"),
        ("GET", "/nothing", None, 404, "not-found"),
        ("POST", "/lilliput/engines", {"model": "nothing"}, 404, "model-not-found"),
        ("POST", "/lilliput/engines", {}, 400, "invalid-request"),
        ("GET", "/lilliput/jobs/nothing", None, 404, "job-not-found"),
    ],
)
def test_native_routes_answer_faults_with_a_code_and_a_hint(
    http: httpx.Client, method: str, path: str, body: object, status: int, code: str
) -> None:
    answer = http.request(method, path, json=body)
    assert answer.status_code == status
    extra = {"param"} if status == 400 else set()
    assert set(answer.json()["error"]) == {"code", "message", "hint"} | extra
    assert answer.json()["error"]["code"] == code


@pytest.mark.parametrize("path", ["/v1/models", "/api/tags", "/lilliput/models", "/health/live"])
def test_a_foreign_host_name_is_refused_in_each_shape(http: httpx.Client, path: str) -> None:
    answer = http.get(path, headers={"host": "foo.example"})
    assert answer.status_code == 403
    assert "foo.example" in str(answer.json()["error"])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"model": MODEL, "messages": SEA}),
        ("/api/pull", {"model": "smollm2"}),
        ("/lilliput/engines", {"model": MODEL}),
    ],
)
def test_a_foreign_page_may_change_nothing(http: httpx.Client, path: str, body: object) -> None:
    answer = http.post(path, json=body, headers={"origin": "https://foo.example"})
    assert answer.status_code == 403
    assert "foo.example" in str(answer.json()["error"])
    assert http.get("/v1/models", headers={"origin": "https://foo.example"}).status_code == 200
