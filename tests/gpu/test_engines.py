"""Engines of a real daemon on the device: loaded as planned, within its budget together."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from tests.gpu.conftest import Start
from tests.gpu.models import DEVICE, LAYERS, path_of

pytestmark = pytest.mark.timeout(900)

SMALL = {"LILLIPUT_CONTEXT_TOKENS": "1024", "LILLIPUT_SLOTS": "1", "LILLIPUT_VRAM_RESERVE": "0"}
MODEL = "smollm2:135m"
WHOLE = LAYERS["smollm2"] + 1


def ok(answer: httpx.Response) -> dict[str, Any]:
    assert answer.is_success, answer.text
    found: dict[str, Any] = answer.json()
    return found


def planned(client: httpx.Client, model: str, **asked: Any) -> dict[str, Any]:
    (variant,) = ok(client.get("/lilliput/plan", params={"model": model} | asked))["variants"]
    found: dict[str, Any] = variant
    return found


def ask(client: httpx.Client, model: str, tokens: int = 2) -> str:
    messages = [{"role": "user", "content": "Hi"}]
    body = {"model": model, "messages": messages, "max_tokens": tokens, "temperature": 0}
    return str(ok(client.post("/v1/chat/completions", json=body))["choices"][0]["message"]["content"])


def engines(client: httpx.Client) -> dict[str, dict[str, Any]]:
    return {engine["model"]: engine for engine in ok(client.get("/lilliput/engines"))["engines"]}


def held(client: httpx.Client) -> int:
    """Bytes of the device that are promised to engines, which is all they hold; those that are idle count as gone."""
    return int(ok(client.get("/lilliput/hardware"))["budget"][DEVICE]["promised_bytes"])


@contextmanager
def at_work(client: httpx.Client, model: str) -> Iterator[None]:
    """While its engine writes a long answer, and until that has ended."""
    busy = threading.Thread(target=ask, args=(client, model, 200))
    busy.start()
    while not engines(client).get(model, {}).get("active"):
        assert busy.is_alive()
    yield
    busy.join()


@pytest.fixture
def whole(start: Start) -> int:
    """Bytes of the device that the model takes when all of it lies there."""
    return sum(planned(start(**SMALL), MODEL, gpu_layers=WHOLE)["need"][DEVICE].values())


def test_an_engine_has_the_layers_that_were_planned_and_answers(start: Start, whole: int) -> None:
    client = start(**SMALL)
    assert planned(client, MODEL)["setting"]["gpu_layers"] == WHOLE
    engine = ok(client.post("/lilliput/engines", json={"model": MODEL}))
    assert engine["settings"]["gpu_layers"] == str(WHOLE)
    assert ask(client, MODEL)
    with at_work(client, MODEL):
        assert held(client) == whole
    ok(client.delete(f"/lilliput/engines/{MODEL}"))
    assert held(client) == 0


def test_an_engine_keeps_a_limit_of_the_device(start: Start, whole: int) -> None:
    need = planned(start(**SMALL), MODEL, gpu_layers=WHOLE)["need"][DEVICE]
    limit = whole - need["weights"] // 2
    client = start(**SMALL, LILLIPUT_VRAM_LIMIT=str(limit))
    layers = planned(client, MODEL)["setting"]["gpu_layers"]
    engine = ok(client.post("/lilliput/engines", json={"model": MODEL}))
    assert 0 < layers < WHOLE
    assert engine["settings"]["gpu_layers"] == str(layers)
    assert ask(client, MODEL)
    with at_work(client, MODEL):
        assert 0 < held(client) <= limit


def test_a_second_engine_takes_only_what_a_busy_one_leaves(start: Start, whole: int) -> None:
    client = start(**SMALL, LILLIPUT_VRAM_LIMIT=str(whole + 8 * 1024**2))
    ok(client.post("/lilliput/engines", json={"model": MODEL}))
    other = str(path_of("smollm2-q8_0"))
    with at_work(client, MODEL):
        engine = ok(client.post("/lilliput/engines", json={"model": other}))
        assert MODEL in engines(client), "it was at work"
        assert "gpu_layers" not in engine["settings"], "nothing is left of the device"
        assert held(client) == whole


def test_an_idle_engine_makes_room_on_the_device(start: Start, whole: int) -> None:
    q8_0 = str(path_of("smollm2-q8_0"))
    limit = sum(planned(start(**SMALL), q8_0, gpu_layers=WHOLE)["need"][DEVICE].values())
    assert limit > whole
    client = start(**SMALL, LILLIPUT_VRAM_LIMIT=str(limit))
    ok(client.post("/lilliput/engines", json={"model": MODEL}))
    engine = ok(client.post("/lilliput/engines", json={"model": q8_0}))
    assert engine["settings"]["gpu_layers"] == str(WHOLE)
    assert MODEL not in engines(client)
    with at_work(client, q8_0):
        assert held(client) == limit
