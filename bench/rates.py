"""Tokens a second over HTTP beside the bare loop on the same file, for one stream and for eight: ``python -m
bench.rates``. In turn, so that a change of the machine's speed meets both; on the embedded model and on Gemma 3 270M.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from rich.console import Console
from tests.support.daemon import DaemonProcess
from tests.support.model import gemma_path, smollm2_path

from bench.bare_loop import BareLoop, settings_like
from bench.judge import Sample, Verdict, judge_all, missed
from bench.report import print_verdicts
from bench.rules import RATE_RULES
from bench.stream import StreamTimes, stream_completion
from bench.tuned import load_tuned
from bench.workloads import BARE, EIGHT, ONE
from lilliput.hardware import read_cpu

CONTEXT_TOKENS = 8192
TOGETHER = 8
TOKENS = 128
PROMPT = "<|im_start|>user\nTell me a long story about ship number {} and the sea.<|im_end|>\n<|im_start|>assistant\n"
MODEL = "smollm2:135m"
LOAD_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Served:
    """A model as the daemon at ``port`` knows it, and its file."""

    port: int
    model: str
    path: Path

    def body(self, number: int) -> dict[str, Any]:
        """A completion of ``TOKENS`` tokens; ``number`` makes its prompt another's."""
        return {
            "model": self.model,
            "prompt": PROMPT.format(number),
            "max_tokens": TOKENS,
            "temperature": 0,
            "ignore_eos": True,
            "speculation": "off",  # the bare loop drafts nothing
        }

    async def stream(self, count: int, first: int) -> tuple[list[StreamTimes], float]:
        """``count`` streams together, and the seconds until the last has ended."""
        began = time.perf_counter()
        times = await asyncio.gather(
            *(stream_completion(self.port, self.body(first + number)) for number in range(count))
        )
        return times, time.perf_counter() - began


def measure_rates(
    served: Served, engine: Mapping[str, Any], rounds: int, tell: Callable[[str, str], None]
) -> list[Sample]:
    """One stream beside one bare sequence, with the settings of the daemon's ``engine``; then eight streams, one, and
    eight bare sequences, round by round.
    """
    bare = BareLoop(settings_like(engine, served.path, read_cpu().compute_threads))
    try:
        return _measure_one_stream(served, bare, rounds, tell) + _measure_many(served, bare, rounds, tell)
    finally:
        bare.stop()


def _measure_one_stream(served: Served, bare: BareLoop, rounds: int, tell: Callable[[str, str], None]) -> list[Sample]:
    alone, http = [], []
    for number in range(rounds):
        alone.append((TOKENS - 1) / bare.generate(_prompts(1, number), TOKENS)["decode_s"])
        (times,), _ = asyncio.run(served.stream(1, number))
        http.append((times.tokens - 1) / times.decode_s)
    tell("bare loop", f"median {median(alone):.1f} tokens/s of {rounds} rounds of {TOKENS} tokens")
    tell("one HTTP stream", f"median {median(http):.1f} tokens/s")
    return _samples("one stream", "stream_tokens_s", {ONE: http, BARE: alone})


def _measure_many(served: Served, bare: BareLoop, rounds: int, tell: Callable[[str, str], None]) -> list[Sample]:
    bare_ratios, ones, totals, delays = [], [], [], []
    for number in range(rounds):
        first = 1000 + TOGETHER * number
        bare_one = TOKENS / bare.generate(_prompts(1, first), TOKENS)["total_s"]
        bare_all = TOGETHER * TOKENS / bare.generate(_prompts(TOGETHER, first), TOKENS)["total_s"]
        bare_ratios.append(bare_all / bare_one)
        (alone,), alone_s = asyncio.run(served.stream(1, first + 1_000))
        together, together_s = asyncio.run(served.stream(TOGETHER, first + 2_000))
        ones.append(alone.tokens / alone_s)
        totals.append(sum(one.tokens for one in together) / together_s)
        delays += [one.first_s for one in together]
    tell(
        f"{TOGETHER} HTTP streams",
        f"median {median(totals):.1f} tokens/s in all (bare loop: {median(bare_ratios):.2f} times one's)",
    )
    tell(f"first token of {TOGETHER}", f"median {median(delays) * 1000:.0f} ms")
    return _samples("eight streams", "tokens_s", {EIGHT: totals, ONE: ones})


def _prompts(count: int, first: int) -> list[str]:
    return [PROMPT.format(first + number) for number in range(count)]


def _samples(workload: str, measure: str, rates: Mapping[str, Sequence[float]]) -> list[Sample]:
    return [
        Sample(workload, label, number, {measure: value})
        for label, values in rates.items()
        for number, value in enumerate(values)
    ]


def main() -> int:
    """Print the figures of each file and the verdicts on them; 0 when every floor holds."""
    parser = argparse.ArgumentParser(prog="bench.rates")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    rounds = 3 if parser.parse_args().quick else 7
    arguments = ["--keep-alive-s", "-1", "--context-tokens", str(CONTEXT_TOKENS)]
    console = Console() if sys.stdout.isatty() else Console(width=140)
    verdicts: list[Verdict] = []
    with (
        tempfile.TemporaryDirectory() as directory,
        DaemonProcess(Path(directory), arguments=arguments) as daemon,
    ):
        for model, path in ((MODEL, smollm2_path()), (str(gemma_path()), gemma_path())):
            _tell(f"\n{path.name}", "")
            served = Served(daemon.port, model, path)
            first_s, engine = _load(daemon, served)
            samples = measure_rates(served, engine, rounds, _tell)
            if model == MODEL:  # what is promised of a cold model is promised of this one
                samples.append(Sample("cold", ONE, 0, {"first_s": first_s}))
            judged = judge_all(RATE_RULES, samples)
            print_verdicts(console, [one for one in judged if one.value is not None])
            verdicts += judged
    return 1 if missed(verdicts) else 0


def _load(daemon: DaemonProcess, served: Served) -> tuple[float, dict[str, Any]]:
    """Load it by its first request, which is timed in seconds, and again with its fastest settings; the engine."""
    if served.model != MODEL:
        pull = {"model": served.model, "stream": False}
        httpx.post(f"{daemon.url}/api/pull", json=pull, timeout=LOAD_TIMEOUT_S, trust_env=False).raise_for_status()
    first_s = asyncio.run(stream_completion(daemon.port, served.body(0))).first_s
    _tell("cold first token", f"{first_s:.2f} s after the request (process start, load and warm-up included)")
    return first_s, load_tuned(daemon.url, served.model, lambda text: _tell("", text))


def _tell(name: str, text: str) -> None:
    sys.stdout.write(f"{name:22} {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
