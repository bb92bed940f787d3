"""Three hundred clients at once on one model whose queue holds 64."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from pathlib import Path

import httpx
from tests.support.daemon import DaemonProcess

CLIENTS, QUEUE, SLOTS = 300, 64, 4
SETTINGS = {"LILLIPUT_THREADS": "1", "LILLIPUT_QUEUE_LIMIT": str(QUEUE), "LILLIPUT_SLOTS": str(SLOTS)}
BODY = {"model": "smollm2:135m", "prompt": "one two three", "max_tokens": 8, "ignore_eos": True}


async def ask(http: httpx.AsyncClient) -> tuple[int, float, httpx.Response]:
    began = time.monotonic()
    answer = await http.post("/v1/completions", json=BODY)
    return answer.status_code, time.monotonic() - began, answer


async def beat(http: httpx.AsyncClient, waits: list[float]) -> None:
    while True:
        began = time.monotonic()
        await http.get("/health/live")
        waits.append(time.monotonic() - began)
        await asyncio.sleep(0.01)


async def storm(url: str) -> tuple[list[tuple[int, float, httpx.Response]], list[float]]:
    limits = httpx.Limits(max_connections=None)
    waits: list[float] = []
    async with (
        httpx.AsyncClient(base_url=url, timeout=120, trust_env=False, limits=limits) as http,
        httpx.AsyncClient(base_url=url, timeout=10, trust_env=False) as other,
    ):
        (await http.post("/lilliput/engines", json={"model": BODY["model"]})).raise_for_status()
        beating = asyncio.create_task(beat(other, waits))
        answers = await asyncio.gather(*(ask(http) for _ in range(CLIENTS)))
        beating.cancel()
    return answers, waits


def test_those_beyond_the_queue_are_told_when_to_come_back_and_the_others_are_served(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path, SETTINGS) as daemon:
        answers, waits = asyncio.run(storm(daemon.url))
        assert "Traceback" not in daemon.log
    served = [took_s for status, took_s, _ in answers if status == 200]
    refused = [(took_s, answer) for status, took_s, answer in answers if status != 200]
    slowest = statistics.quantiles(waits, n=100)[98]
    sys.stdout.write(f"\n{len(served)} served, {len(refused)} refused; health p99 {slowest:.3f} s\n")
    assert QUEUE <= len(served) < CLIENTS
    assert {answer.status_code for _, answer in refused} <= {429, 503}
    assert all(1 <= float(answer.headers["retry-after"]) <= 60 for _, answer in refused)
    assert all(answer.json()["choices"][0]["finish_reason"] for status, _, answer in answers if status == 200)
