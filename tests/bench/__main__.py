"""All benchmarks in one run, on the embedded model; ``--quick`` takes fewer rounds."""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from tests.bench.streams import StreamTimes, stream_completion
from tests.support.daemon import DaemonProcess
from tests.support.model import smollm2_path

from lilliput.hardware import read_cpu

MODEL = "smollm2:135m"
CONTEXT_TOKENS = 8192
TOKENS = 128
PROMPT = "<|im_start|>user\nTell me a long story about ship number {} and the sea.<|im_end|>\n<|im_start|>assistant\n"


def main() -> None:
    """Print each figure with its ratio."""
    parser = argparse.ArgumentParser(prog="tests.bench")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    rounds = 3 if parser.parse_args().quick else 7
    with tempfile.TemporaryDirectory() as directory:
        _print_start(Path(directory), 5)
        _print_help(5)
        with DaemonProcess(Path(directory) / "serving", arguments=["--keep-alive-s", "-1"]) as daemon:
            first_s = asyncio.run(stream_completion(daemon.port, _body(0))).first_s
            _tell("cold first token", f"{first_s:.2f} s after the request (process start, load and warm-up included)")
            backend = _backend(daemon.url)
            _print_one_stream(daemon.port, rounds, extra_buffers=backend == "native")
            _print_many(daemon.port, rounds)


def _print_start(directory: Path, count: int) -> None:
    times = []
    for number in range(count):
        with DaemonProcess(directory / f"start-{number}") as daemon:
            times.append(daemon.started_in_s)
    _tell("daemon live", f"median {median(times):.2f} s of {count} starts, each with an empty data directory")


def _print_help(count: int) -> None:
    command = [str(Path(sys.executable).parent / "lilliput"), "--help"]
    times = [_timed(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(count)]
    _tell("lilliput --help", f"median {median(times) * 1000:.0f} ms of {count}")


def _print_one_stream(port: int, rounds: int, *, extra_buffers: bool) -> None:
    """Bare loop and HTTP stream in turn, so that a change of the machine's speed meets both."""
    bare = _BareLoop(extra_buffers=extra_buffers)
    rates: dict[str, list[float]] = {"bare": [], "http": []}
    try:
        for number in range(rounds):
            prompt = PROMPT.format(number)
            rates["bare"].append((TOKENS - 1) / bare.generate(prompt, TOKENS)["decode_s"])
            rates["http"].append(_rate(asyncio.run(stream_completion(port, _body(number)))))
    finally:
        bare.close()
    ratio = median(http / alone for http, alone in zip(rates["http"], rates["bare"], strict=True))
    _tell("bare loop", f"median {median(rates['bare']):.1f} tokens/s of {rounds} rounds of {TOKENS} tokens")
    _tell("one HTTP stream", f"median {median(rates['http']):.1f} tokens/s; ratio to the bare loop {ratio:.3f}")


def _print_many(port: int, rounds: int) -> None:
    async def together(count: int, first: int) -> list[StreamTimes]:
        return await asyncio.gather(*(stream_completion(port, _body(first + number)) for number in range(count)))

    ratios, totals, delays = [], [], []
    for number in range(rounds):
        began = time.perf_counter()
        alone = asyncio.run(together(1, 1000 + number))
        alone_rate = alone[0].tokens / (time.perf_counter() - began)
        began = time.perf_counter()
        eight = asyncio.run(together(8, 2000 + 8 * number))
        totals.append(sum(one.tokens for one in eight) / (time.perf_counter() - began))
        ratios.append(totals[-1] / alone_rate)
        delays += [one.first_s for one in eight]
    _tell("eight HTTP streams", f"median {median(totals):.1f} tokens/s in all; {median(ratios):.2f} times one stream's")
    _tell("first token of eight", f"median {median(delays) * 1000:.0f} ms")


class _BareLoop:
    """The bare loop's child process."""

    def __init__(self, *, extra_buffers: bool) -> None:
        options = {
            "path": str(smollm2_path()),
            "threads": read_cpu().compute_threads,
            "context_tokens": CONTEXT_TOKENS,
            "extra_buffers": extra_buffers,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.bare", json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()

    def generate(self, prompt: str, tokens: int) -> dict[str, float]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"prompt": prompt, "tokens": tokens}) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        self._process.communicate()

    def _read(self) -> dict[str, float]:
        assert self._process.stdout is not None
        message: dict[str, float] = json.loads(self._process.stdout.readline())
        return message


def _body(number: int) -> dict[str, Any]:
    return {
        "model": MODEL,
        "prompt": PROMPT.format(number),
        "max_tokens": TOKENS,
        "temperature": 0,
        "ignore_eos": True,
    }


def _rate(times: StreamTimes) -> float:
    return (times.tokens - 1) / times.decode_s


def _backend(url: str) -> str:
    engines = httpx.get(f"{url}/lilliput/engines", trust_env=False).json()["engines"]
    return str(engines[0]["settings"]["backend"])


def _timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _tell(name: str, text: str) -> None:
    sys.stdout.write(f"{name:22} {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
