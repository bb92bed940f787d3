"""How long a sequence stays after its client left: streams are closed in the middle, then the engine is watched."""

from __future__ import annotations

import httpx
from tests.support.daemon import DaemonProcess
from tests.support.watching import active, wait_until

MODEL = "smollm2:135m"
CHUNKS_BEFORE = 8
TIMEOUT_S = 120.0


def measure_leaving(daemon: DaemonProcess, count: int) -> list[float]:
    """Seconds from the close of a stream until the engine runs nothing any more, for ``count`` streams.

    The list of engines is asked again every few milliseconds, which is in the figures: the truth is less.
    """
    with httpx.Client(base_url=daemon.url, timeout=TIMEOUT_S, trust_env=False) as http:
        return [_leave(http, number) for number in range(count)]


def _leave(http: httpx.Client, number: int) -> float:
    message = {"role": "user", "content": f"Tell me a very long story about ship number {number}."}
    body = {"model": MODEL, "messages": [message], "max_tokens": 4000, "ignore_eos": True, "stream": True}
    with http.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = response.raise_for_status().iter_lines()
        for _ in range(CHUNKS_BEFORE):
            next(lines)
        wait_until(lambda: active(http) == 1)
        response.close()
        return wait_until(lambda: active(http) == 0)
