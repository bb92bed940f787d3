"""A context twice as long as the model was trained for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.functional.conftest import MODEL, ONE_THREAD, client_of
from tests.support.daemon import DaemonProcess
from tests.support.watching import engines

pytestmark = pytest.mark.functional

TRAINED = 8192
LONG: dict[str, Any] = {"model": MODEL, "context": 2 * TRAINED, "slots": 1}


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with DaemonProcess(tmp_path_factory.mktemp("long"), ONE_THREAD) as daemon, client_of(daemon) as client:
        yield client


def test_it_is_refused_unless_it_is_said_how(http: httpx.Client) -> None:
    for answer in (http.post("/lilliput/engines", json=LONG), http.post("/lilliput/plan", json=LONG)):
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (400, "context")
        assert f"trained with {TRAINED} tokens" in error["message"]
        assert "rope_scaling yarn" in error["hint"]
    assert engines(http) == []


def test_yarn_stretches_it_as_far_as_is_asked_and_it_answers(http: httpx.Client) -> None:
    plan = http.get("/lilliput/plan", params={**LONG, "rope_scaling": "yarn"}).json()
    assert plan["rope"] == {"scaling": "yarn", "freq_base": None, "freq_scale": 0.5, "original_tokens": None}
    loaded = http.post("/lilliput/engines", json={**LONG, "rope_scaling": "yarn"}).json()
    assert loaded["context_tokens"] == 2 * TRAINED
    assert (loaded["settings"]["rope_scaling"], loaded["settings"]["rope_freq_scale"]) == ("yarn", "0.5")
    body = {"model": MODEL, "prompt": "One, two, three, four, five,", "temperature": 0, "max_tokens": 8}
    assert " six" in http.post("/v1/completions", json=body).json()["choices"][0]["text"]
    assert engines(http)[0]["context_tokens"] == 2 * TRAINED


@pytest.mark.parametrize(
    "wrong",
    [
        {"rope_scaling": "ntk"},
        {"rope_freq_scale": 0.5},
        {"rope_scaling": "yarn", "rope_freq_scale": 2},
        {"rope_scaling": "linear", "yarn_orig_ctx": 4096},
        {"rope_freq_base": 0},
    ],
)
def test_wrong_values_are_refused_by_name(http: httpx.Client, wrong: dict[str, Any]) -> None:
    for path in ("/lilliput/engines", "/lilliput/plan", "/lilliput/pulls"):
        answer = http.post(path, json={"model": MODEL, "context": 2 * TRAINED, **wrong})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, list(wrong)[-1])
    answer = http.get("/lilliput/plan", params={**LONG, **wrong})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, list(wrong)[-1])
