"""What a streamed chunk costs in the daemon, shown by an engine that costs nothing.

``python -m tests.bench.null_engine`` opens streams of chat completions over real HTTP, counts their chunks in a client
of its own on another core, and asks ``/health/live`` all the while. Its exit status is 1 when a floor is not reached.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import selectors
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median, quantiles

import httpx
import psutil
from tests.bench.null_worker import STEP_VARIABLE, STREAMS_VARIABLE
from tests.support.daemon import DaemonProcess

MODEL = "smollm2:135m"
STREAMS = 64
TOKENS = 10_000
PACED_TOKENS = 400
PACED_STEP_S = 0.01
FLOOR_CHUNKS_S = 50_000
FLOOR_CPU_US = 20.0
FLOOR_HEALTH_S = 0.020
_READ_BYTES = 1 << 18
_PROBE_EVERY_S = 0.01
_CHUNK = b'"delta":{"content":"'
_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Figures:
    """One run: chunks that were streamed, their bytes, the wall and the daemon's CPU seconds, latencies in seconds."""

    chunks: int
    read_bytes: int
    wall_s: float
    cpu_s: float
    health_s: Sequence[float]

    @property
    def chunks_s(self) -> float:
        """Chunks a second of wall time."""
        return self.chunks / self.wall_s

    @property
    def chunk_cpu_us(self) -> float:
        """Microseconds of the daemon's CPU time for one chunk: what other programs do does not change it."""
        return self.cpu_s / self.chunks * 1e6

    @property
    def worst_health_s(self) -> float:
        """The slowest answer of ``/health/live``."""
        return max(self.health_s)

    @property
    def tail_health_s(self) -> float:
        """What 99 of 100 answers of ``/health/live`` took at most."""
        return quantiles(self.health_s, n=100)[98]

    def told(self) -> str:
        """The figures in a few lines."""
        milliseconds = ", ".join(
            f"{name} {value * 1000:.1f} ms"
            for name, value in (
                ("p50", median(self.health_s)),
                ("p99", self.tail_health_s),
                ("max", self.worst_health_s),
            )
        )
        return (
            f"  chunks/s      {self.chunks_s:12,.0f}   ({self.chunks:,} chunks in {self.wall_s:.2f} s)\n"
            f"  bytes/s       {self.read_bytes / self.wall_s:12,.0f}   ({self.read_bytes / self.chunks:.0f} a chunk)\n"
            f"  daemon's CPU  {self.chunk_cpu_us:12.2f} µs a chunk, {self.cpu_s / self.wall_s:.0%} of a core\n"
            f"  /health/live  {milliseconds}, {len(self.health_s)} asked\n"
        )


def measure(directory: Path, streams: int, tokens: int, step_s: float = 0.0) -> Figures:
    """Stream ``tokens`` chunks to each of ``streams`` clients; every one of them must arrive (RuntimeError if not).

    The daemon has the first core to itself, the clients and the engine the others, as far as the system can do that.
    """
    environment = {STREAMS_VARIABLE: str(streams), STEP_VARIABLE: str(step_s)}
    command = (sys.executable, "-m", "tests.bench.null_daemon")
    with DaemonProcess(
        directory, environment, arguments=["--queue-limit", str(streams), "--drain-s", "0"], command=command
    ) as daemon:
        loading = httpx.post(f"{daemon.url}/lilliput/engines", json={"model": MODEL}, timeout=60, trust_env=False)
        if loading.is_error:
            raise RuntimeError(f"{loading.text}\n{daemon.log}")
        with _kept_apart(daemon.pid, loading.json()["pid"]):
            ours, theirs = multiprocessing.Pipe()
            probe = multiprocessing.get_context("spawn").Process(target=_probe, args=(daemon.port, theirs), daemon=True)
            probe.start()
            ours.recv()
            try:
                return _stream(daemon, ours, streams, tokens)
            finally:
                probe.kill()
                probe.join()


@contextmanager
def _kept_apart(daemon_pid: int, worker_pid: int) -> Iterator[None]:
    """One core for the daemon, with all its threads; the rest for the engine and for this process, which gets all of
    them back: what it starts later inherits what it may use.
    """
    if not hasattr(psutil.Process, "cpu_affinity"):
        yield
        return
    this = psutil.Process()
    cores = this.cpu_affinity()
    first, *others = cores
    for thread in psutil.Process(daemon_pid).threads():
        psutil.Process(thread.id).cpu_affinity([first])
    psutil.Process(worker_pid).cpu_affinity(others or [first])
    this.cpu_affinity(others or [first])
    try:
        yield
    finally:
        this.cpu_affinity(cores)


def _stream(daemon: DaemonProcess, probe: Connection, streams: int, tokens: int) -> Figures:
    process = psutil.Process(daemon.pid)
    selector = selectors.DefaultSelector()
    for _ in range(streams):
        selector.register(_ask(daemon.port, tokens), selectors.EVENT_READ, bytearray())
    counts = {"chunks": 0, "bytes": 0, "open": streams}
    buffer = memoryview(bytearray(_READ_BYTES))
    began_s = cpu_s = 0.0
    limit_s = time.monotonic() + _LIMIT_S
    while counts["open"]:
        for key, _ in selector.select(1.0):
            connection, tail = key.fileobj, key.data
            assert isinstance(connection, socket.socket)
            size = connection.recv_into(buffer)
            data = bytes(tail) + bytes(buffer[:size])
            counts["bytes"] += size
            counts["chunks"] += data.count(_CHUNK)
            tail[:] = data[-(len(_CHUNK) - 1) :]
            if not size or data.endswith(b"0\r\n\r\n"):
                counts["open"] -= 1
                selector.unregister(connection)
                connection.close()
        if not began_s and counts["chunks"]:
            began_s, cpu_s = time.perf_counter(), _cpu_s(process)
            probe.send("begin")
        if time.monotonic() > limit_s:
            raise RuntimeError(f"the streams did not end: {counts}\n{daemon.log}")
    wall_s, cpu_s = time.perf_counter() - began_s, _cpu_s(process) - cpu_s
    probe.send("end")
    if counts["chunks"] != streams * tokens:
        raise RuntimeError(f"{counts['chunks']} chunks came of {streams * tokens}")
    return Figures(counts["chunks"], counts["bytes"], wall_s, cpu_s, probe.recv())


def _ask(port: int, tokens: int) -> socket.socket:
    """A connection on which a stream of ``tokens`` chunks was asked for."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": tokens}
    content = json.dumps(body).encode()
    connection = socket.create_connection(("127.0.0.1", port))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n"
    connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    return connection


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _probe(port: int, orders: Connection) -> None:
    """Ask ``/health/live`` on one connection from "begin" to "end", then send the seconds each answer took."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = f"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    taken: list[float] = []
    orders.send("ready")
    orders.recv()
    while not orders.poll(_PROBE_EVERY_S):
        began = time.perf_counter()
        connection.sendall(request)
        answer = b""
        while not answer.endswith(b'{"status":"live"}'):
            answer += connection.recv(4096)
        taken.append(time.perf_counter() - began)
    orders.send(taken)


def main() -> int:
    """Print the figures; 1 when a floor is not reached."""
    parser = argparse.ArgumentParser(prog="tests.bench.null_engine", description=__doc__)
    parser.add_argument("--streams", type=int, default=STREAMS, help="streams that are open at once")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="tokens of each")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        sys.stdout.write(f"{arguments.streams} streams, as fast as the daemon takes them\n")
        full = measure(Path(directory) / "full", arguments.streams, arguments.tokens)
        sys.stdout.write(full.told())
        sys.stdout.write(f"{arguments.streams} streams, one token each every {PACED_STEP_S * 1000:.0f} ms\n")
        paced = measure(Path(directory) / "paced", arguments.streams, PACED_TOKENS, PACED_STEP_S)
        sys.stdout.write(paced.told())
    return _verdict(full)


def _verdict(full: Figures) -> int:
    missed = [
        text
        for text, held in (
            (f"at least {FLOOR_CHUNKS_S:,} chunks/s", full.chunks_s >= FLOOR_CHUNKS_S),
            (f"at most {FLOOR_CPU_US:.0f} µs of CPU a chunk", full.chunk_cpu_us <= FLOOR_CPU_US),
            (f"99 % of /health/live within {FLOOR_HEALTH_S * 1000:.0f} ms", full.tail_health_s < FLOOR_HEALTH_S),
        )
        if not held
    ]
    for text in missed:
        sys.stdout.write(f"missed: {text}\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
