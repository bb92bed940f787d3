"""How fast this machine reads memory, measured. As a child: ``python -m lilliput.hardware.bandwidth --threads N``.

It is not imported by the room's ``__init__``: numpy and the buffer belong in a child, not in the daemon.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from lilliput.children import end_with_parent
from lilliput.hardware.cores import last_level_cache_bytes
from lilliput.hardware.memory import read_memory
from lilliput.units import MIB

USUAL_BYTES = 256 * MIB
_CACHES = 2
"""A buffer of so many times the caches is read from memory, or nearly all of it."""
_MOST_SHARE = 0.1
_LEAST_PER_THREAD = 64 * 1024
_LEAST_PASSES = 3


def buffer_bytes(available_bytes: int, cache_bytes: int | None) -> int:
    """Bytes that the probe takes for all threads together: 256 MiB, or twice the caches where these are larger.

    Never more than a tenth of what is available: then the caches may hold the buffer.
    """
    return min(max(USUAL_BYTES, _CACHES * (cache_bytes or 0)), int(available_bytes * _MOST_SHARE))


def measure_bandwidth(threads: int, seconds: float = 0.25, *, total_bytes: int | None = None) -> float:
    """Bytes a second that ``threads`` threads together read from memory, the best of several passes.

    Each pass, every thread reads its own share of ``total_bytes`` (see ``buffer_bytes``) once, all at the same time.
    Passes go on for ``seconds``, and there are at least three. The result is that of the caches, not of the memory,
    where these can hold the buffer; ``probe`` says so. Raises ValueError for less than one thread.
    """
    if threads < 1:
        raise ValueError(f"{threads} threads cannot read")
    total = _buffer_bytes_here() if total_bytes is None else total_bytes
    reader = _Reader(threads, max(total // threads, _LEAST_PER_THREAD), seconds)
    return reader.run()


def _buffer_bytes_here() -> int:
    return buffer_bytes(read_memory().available_bytes, last_level_cache_bytes())


class _Reader:
    """Threads that read in step: numpy lets go of the interpreter while it reads."""

    def __init__(self, threads: int, share_bytes: int, seconds: float) -> None:
        self._threads = threads
        self._share_bytes = share_bytes
        self._seconds = seconds
        self._barrier = threading.Barrier(threads, action=self._between)
        self._spans: list[tuple[float, float]] = [(0.0, 0.0)] * threads
        self._passes = 0
        self._end = 0.0
        self._best = 0.0
        self._on = True

    def run(self) -> float:
        with ThreadPoolExecutor(self._threads) as crew:
            for done in [crew.submit(self._work, index) for index in range(self._threads)]:
                done.result()
        return self._best

    def _work(self, index: int) -> None:
        try:
            self._read(index)
        except BaseException:
            self._barrier.abort()  # or the others would wait for ever
            raise

    def _read(self, index: int) -> None:
        share = np.empty(self._share_bytes, dtype=np.uint8)
        share.fill(1)  # by the thread that reads it: so the pages exist, and on its NUMA node
        while True:
            self._barrier.wait()
            if not self._on:
                return
            start = time.perf_counter()
            share.max()
            self._spans[index] = (start, time.perf_counter())

    def _between(self) -> None:
        """Run by one thread while the others wait: book the pass that ended, decide about another."""
        now = time.perf_counter()
        if self._end == 0.0:
            self._end = now + self._seconds
            return
        took = max(end for _, end in self._spans) - min(start for start, _ in self._spans)
        self._passes += 1
        self._best = max(self._best, self._threads * self._share_bytes / took)
        self._on = now < self._end or self._passes < _LEAST_PASSES


def probe(threads: int, seconds: float = 0.25) -> dict[str, Any]:
    """The measurement as plain JSON values; ``cache_bound`` is None where the size of the caches is unknown."""
    total = _buffer_bytes_here()
    cache = last_level_cache_bytes()
    return {
        "bandwidth_bytes_s": measure_bandwidth(threads, seconds, total_bytes=total),
        "threads": threads,
        "buffer_bytes": total,
        "cache_bytes": cache,
        "cache_bound": None if cache is None else total < _CACHES * cache,
    }


def _main() -> None:
    end_with_parent()
    parser = argparse.ArgumentParser(prog="python -m lilliput.hardware.bandwidth", description="Print JSON.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.25)
    options = parser.parse_args()
    sys.stdout.write(json.dumps(probe(max(1, options.threads), options.seconds)) + "\n")


if __name__ == "__main__":
    _main()
