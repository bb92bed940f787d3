"""All benchmarks in one run, on the embedded model and on Gemma 3 270M; ``--quick`` takes fewer rounds."""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from tests.bench.rates import CONTEXT_TOKENS, Served, print_rates
from tests.bench.streams import stream_completion
from tests.support.daemon import DaemonProcess
from tests.support.model import gemma_path, smollm2_path

MODEL = "smollm2:135m"
LOAD_TIMEOUT_S = 120.0


def main() -> None:
    """Print each figure with its ratio."""
    parser = argparse.ArgumentParser(prog="tests.bench")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    rounds = 3 if parser.parse_args().quick else 7
    with tempfile.TemporaryDirectory() as directory:
        _print_start(Path(directory), 5)
        _print_help(5)
        arguments = ["--keep-alive-s", "-1", "--context-tokens", str(CONTEXT_TOKENS)]
        with DaemonProcess(Path(directory) / "serving", arguments=arguments) as daemon:
            for model, path in ((MODEL, smollm2_path()), (str(gemma_path()), gemma_path())):
                sys.stdout.write(f"\n{path.name}\n")
                print_rates(_load(daemon, model, path), rounds, _tell)


def _load(daemon: DaemonProcess, model: str, path: Path) -> Served:
    """Load it by its first request, which is timed."""
    if model != MODEL:
        pull = {"model": model, "stream": False}
        httpx.post(f"{daemon.url}/api/pull", json=pull, timeout=LOAD_TIMEOUT_S, trust_env=False).raise_for_status()
    served = Served(daemon.port, model, path, extra_buffers=True)
    first_s = asyncio.run(stream_completion(daemon.port, served.body(0))).first_s
    _tell("cold first token", f"{first_s:.2f} s after the request (process start, load and warm-up included)")
    engine = _engine(daemon.url, model)
    return Served(daemon.port, model, path, extra_buffers=engine["backend"] == "native")


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


def _engine(url: str, model: str) -> dict[str, Any]:
    engines = httpx.get(f"{url}/lilliput/engines", trust_env=False).json()["engines"]
    settings: dict[str, Any] = next(engine["settings"] for engine in engines if engine["model"] == model)
    return settings


def _timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _tell(name: str, text: str) -> None:
    sys.stdout.write(f"{name:22} {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
