"""Three hundred clients at once on one model whose queue holds 64."""

from __future__ import annotations

import json
import multiprocessing
import selectors
import socket
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx
from tests.support.daemon import DaemonProcess

CLIENTS, QUEUE, SLOTS = 300, 64, 4
SETTINGS = {"LILLIPUT_THREADS": "1", "LILLIPUT_QUEUE_LIMIT": str(QUEUE), "LILLIPUT_SLOTS": str(SLOTS)}
MODEL = "smollm2:135m"
BODY = {"model": MODEL, "prompt": "one two three", "max_tokens": 16, "ignore_eos": True}
PROMISED_S = 0.05
"""Of a refusal beside a full queue, and of the daemon's health meanwhile."""


@dataclass
class Asked:
    """One client's answer, and when it was there: all of a request is sent at once, on a connection that stands."""

    sent_s: float = 0.0
    took_s: float = 0.0
    data: bytes = b""

    @property
    def status(self) -> int:
        return int(self.data.split(b" ", 2)[1])

    @property
    def head(self) -> str:
        return self.data.partition(b"\r\n\r\n")[0].decode().lower()

    @property
    def body(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.data.partition(b"\r\n\r\n")[2])
        return told

    @property
    def retry_after_s(self) -> float:
        return float(self.head.partition("retry-after: ")[2].split("\r\n", 1)[0])


def request() -> bytes:
    data = json.dumps(BODY).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {len(data)}\r\n"
    return head.encode() + b"Content-Type: application/json\r\n\r\n" + data


def flood(port: int, count: int) -> list[Asked]:
    """So many clients at once, from one thread that does nothing but read."""
    found = []
    with selectors.DefaultSelector() as ready:
        for _ in range(count):
            link = socket.create_connection(("127.0.0.1", port))
            ready.register(link, selectors.EVENT_READ, (link, Asked()))
        wanted = request()
        for key in ready.get_map().values():
            link, asked = _parts(key)
            asked.sent_s = time.monotonic()
            link.send(wanted)
        while ready.get_map():
            for key, _ in ready.select(timeout=120):
                link, asked = _parts(key)
                asked.took_s = asked.took_s or time.monotonic() - asked.sent_s
                data = link.recv(65536)
                asked.data += data
                if not data:
                    ready.unregister(link)
                    link.close()
                    found.append(asked)
    return found


def _parts(key: selectors.SelectorKey) -> tuple[socket.socket, Asked]:
    found: tuple[socket.socket, Asked] = key.data
    return found


def elsewhere(work: Callable[[int, Connection], None], port: int) -> Connection:
    """Do something in a process of its own, so that this one's work is not what is measured."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    spawn.Process(target=work, args=(port, theirs), daemon=True).start()
    assert ours.recv() == "ready"
    return ours


def look(port: int, orders: Connection) -> None:
    """Ask for the daemon's health until told to end."""
    waits: list[float] = []
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10, trust_env=False) as http:
        http.get("/health/live")
        orders.send("ready")
        while not orders.poll(0.01):
            began = time.monotonic()
            http.get("/health/live")
            waits.append(time.monotonic() - began)
    orders.send(waits)


def knock(port: int, orders: Connection) -> None:
    """One more client after the other, while the queue is full."""
    orders.send("ready")
    found: list[Asked] = []
    orders.recv()
    while not orders.poll(0.02):
        found += flood(port, 1)
    orders.send(found)


def told(found: list[float]) -> str:
    """Median and tail of some times."""
    tail_s = statistics.quantiles(found, n=100)[98]
    return f"{statistics.median(found) * 1000:.1f} ms (median), {tail_s * 1000:.1f} ms (99 %) of {len(found)}"


def test_those_beyond_the_queue_are_told_when_to_come_back_and_the_others_are_served(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path, SETTINGS) as daemon:
        wanted = {"model": MODEL}
        httpx.post(f"{daemon.url}/lilliput/engines", json=wanted, timeout=60, trust_env=False).raise_for_status()
        looking, knocking = elsewhere(look, daemon.port), elsewhere(knock, daemon.port)
        knocking.send("go")
        answers = flood(daemon.port, CLIENTS)
        knocking.send("end")
        looking.send("end")
        knocks: list[Asked] = [one for one in knocking.recv() if one.status != 200]
        waits: list[float] = looking.recv()
        assert "Traceback" not in daemon.log
    served = [one for one in answers if one.status == 200]
    refused = [one for one in answers if one.status != 200]
    sys.stdout.write(
        f"\n{len(served)} served, {len(refused)} refused: all at once after {told([one.took_s for one in refused])};"
        f" beside a full queue after {told([one.took_s for one in knocks])}; health after {told(waits)}\n"
    )
    assert QUEUE <= len(served) < CLIENTS
    assert {one.status for one in (*refused, *knocks)} <= {429, 503}
    assert all(1 <= one.retry_after_s <= 60 for one in (*refused, *knocks))
    assert all(one.body["choices"][0]["finish_reason"] == "length" for one in served)
    assert statistics.quantiles([one.took_s for one in knocks], n=100)[98] <= PROMISED_S
    assert statistics.quantiles(waits, n=100)[98] < PROMISED_S
