"""A thousand clients who leave at any moment: while they send, wait, are loaded for, are read or are answered."""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
from tests.support.daemon import DaemonProcess
from tests.support.footprint import footprint, resident

REQUESTS = int(os.environ.get("LILLIPUT_CHAOS_REQUESTS", "1000"))
AT_ONCE, SLOTS, CONTEXT = 10, 4, 4096
UNLOAD_EVERY = 10
"""Rounds that begin without an engine: some leave while it is loaded."""

MODEL = "smollm2:135m"
SETTINGS = {
    "LILLIPUT_THREADS": "1",
    "LILLIPUT_SLOTS": str(SLOTS),
    "LILLIPUT_CONTEXT_TOKENS": str(CONTEXT),
    "LILLIPUT_PREFIX_STORE": "0",
}
PROMISED_S = 0.1
ENDLESS = {"model": MODEL, "max_tokens": 3000, "ignore_eos": True}


def body(draw: random.Random) -> tuple[str, dict[str, Any]]:
    """A request that takes long, of one kind or another."""
    stream = draw.random() < 0.6
    if draw.random() < 0.4:
        messages = [{"role": "user", "content": f"Tell me story {draw.randrange(1000)}."}]
        return "/v1/chat/completions", ENDLESS | {"messages": messages, "stream": stream, "n": draw.choice((1, 1, 2))}
    long = [draw.randrange(100, 4000) for _ in range(draw.choice((8, 200, 3000)))]
    return "/v1/completions", ENDLESS | {"prompt": long, "stream": stream}


async def leave(http: httpx.AsyncClient, port: int, draw: random.Random) -> None:
    """Ask, and leave after a moment; some leave before they have said all."""
    route, wanted = body(draw)
    if draw.random() < 0.1:
        data = json.dumps(wanted).encode()
        head = f"POST {route} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write((head + data)[: draw.randrange(len(head) + len(data))])
        await asyncio.sleep(draw.uniform(0, 0.3))
        writer.close()
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(draw.choice((0.005, 0.05, 0.3, 0.8)) * draw.uniform(0.5, 1.5)):
            async with http.stream("POST", route, json=wanted) as response:
                async for _ in response.aiter_bytes():
                    pass


async def engines(http: httpx.AsyncClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await http.get("/lilliput/engines")).raise_for_status().json()["engines"]
    return found


async def freed(http: httpx.AsyncClient) -> float:
    """Seconds until nothing runs or waits, and nothing is loaded for nobody."""
    began = time.monotonic()
    while any(one["active"] or one["waiting"] or one["state"] == "loading" for one in await engines(http)):
        assert time.monotonic() - began < 10, "a sequence was not freed"
        await asyncio.sleep(0.002)
    return time.monotonic() - began


async def answers(http: httpx.AsyncClient) -> list[str]:
    """What the model says to some prompts, one after the other."""
    told = []
    for prompt in ("The sea is", "One two three", "Once upon a time"):
        asked = {"model": MODEL, "prompt": prompt, "max_tokens": 24, "temperature": 0}
        told.append((await http.post("/v1/completions", json=asked)).raise_for_status().json()["choices"][0]["text"])
    return told


async def fill(http: httpx.AsyncClient) -> list[int]:
    """Take all cells at once: prompts that fill the context together. The tokens that were read."""
    each = CONTEXT // SLOTS - 16
    prompts = [[5000 + slot, *range(200, 200 + each - 1)] for slot in range(SLOTS)]
    asked = [http.post("/v1/completions", json={"model": MODEL, "prompt": one, "max_tokens": 8}) for one in prompts]
    return [one.raise_for_status().json()["usage"]["prompt_tokens"] for one in await asyncio.gather(*asked)]


async def storm(daemon: DaemonProcess) -> tuple[list[float], list[tuple[int, int]]]:
    """Seconds until all was free after each round; and what daemon and worker had resident, a quarter in and last."""
    draw = random.Random(11)
    waits: list[float] = []
    sizes: list[tuple[int, int]] = []
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with (
        httpx.AsyncClient(base_url=daemon.url, timeout=120, trust_env=False, limits=limits) as http,
        httpx.AsyncClient(base_url=daemon.url, timeout=300, trust_env=False) as watching,
    ):
        before = await answers(watching)
        rounds = REQUESTS // AT_ONCE
        for number in range(1, rounds + 1):
            if number % UNLOAD_EVERY == 0:
                await watching.delete(f"/lilliput/engines/{MODEL}")
            await asyncio.gather(*(leave(http, daemon.port, draw) for _ in range(AT_ONCE)))
            waits.append(await freed(watching))
            if number in (rounds // 4, rounds):
                assert await answers(watching) == before, "something is left in the cache that should not be"
                assert await fill(watching) == [CONTEXT // SLOTS - 16] * SLOTS
                await freed(watching)
                (engine,) = await engines(watching)
                assert engine["stats"]["kv_cells_used"] == engine["cached_tokens"]
                sizes.append((footprint(daemon.pid).resident_bytes, resident(psutil.Process(engine["pid"]))))
    return waits, sizes


def test_all_they_held_is_free_at_once_and_nothing_grows(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path, SETTINGS) as daemon:
        waits, ((daemon_first, worker_first), (daemon_last, worker_last)) = asyncio.run(storm(daemon))
        last = footprint(daemon.pid)
        assert "Traceback" not in daemon.log
    middle, slow = statistics.median(waits), statistics.quantiles(waits, n=20)[18]
    sys.stdout.write(
        f"\n{len(waits) * AT_ONCE} left; free again after {middle * 1000:.0f} ms (median), {slow * 1000:.0f} ms"
        f" (95 %), {max(waits) * 1000:.0f} ms at most; daemon {daemon_first / 1e6:.0f} to {daemon_last / 1e6:.0f} MB,"
        f" worker {worker_first / 1e6:.0f} to {worker_last / 1e6:.0f} MB, {last.files} files\n"
    )
    assert slow <= PROMISED_S
    assert daemon_last < daemon_first * 1.05
    assert worker_last < worker_first * 1.05
