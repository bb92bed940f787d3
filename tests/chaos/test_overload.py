"""Three hundred clients at once on one model whose queue holds 64."""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import sys
import time
from multiprocessing.connection import Connection
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


def probe(url: str, orders: Connection) -> None:
    """Asks for the daemon's health until told to end; in a process of its own, so that the clients' loop is not what is
    measured.
    """
    waits: list[float] = []
    with httpx.Client(base_url=url, timeout=10, trust_env=False) as http:
        http.get("/health/live")
        orders.send("ready")
        while not orders.poll(0.01):
            began = time.monotonic()
            http.get("/health/live")
            waits.append(time.monotonic() - began)
    orders.send(waits)


async def storm(url: str) -> tuple[list[tuple[int, float, httpx.Response]], list[float]]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False, limits=limits) as http:
        (await http.post("/lilliput/engines", json={"model": BODY["model"]})).raise_for_status()
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        looking = spawn.Process(target=probe, args=(url, theirs), daemon=True)
        looking.start()
        assert ours.recv() == "ready"
        answers = await asyncio.gather(*(ask(http) for _ in range(CLIENTS)))
        ours.send("end")
        waits: list[float] = ours.recv()
        looking.join()
    return answers, waits


def test_those_beyond_the_queue_are_told_when_to_come_back_and_the_others_are_served(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path, SETTINGS) as daemon:
        answers, waits = asyncio.run(storm(daemon.url))
        assert "Traceback" not in daemon.log
    served = [took_s for status, took_s, _ in answers if status == 200]
    refused = [(took_s, answer) for status, took_s, answer in answers if status != 200]
    slowest = statistics.quantiles(waits, n=100)[98]
    seen_s = statistics.median(took_s for took_s, _ in refused)
    told = f"{len(refused)} refused after {seen_s:.3f} s (median, of which the clients' own loop has a part)"
    sys.stdout.write(f"\n{len(served)} served, {told}; health p99 {slowest:.3f} s of {len(waits)}\n")
    assert QUEUE <= len(served) < CLIENTS
    assert {answer.status_code for _, answer in refused} <= {429, 503}
    assert all(1 <= float(answer.headers["retry-after"]) <= 60 for _, answer in refused)
    assert all(answer.json()["choices"][0]["finish_reason"] for status, _, answer in answers if status == 200)
