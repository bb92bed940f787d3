"""Forecasts of speed against the bare loop, in one run: ``python -m tests.bench.fit_speed``.

The probe that calibrates and the loops take turns, so that a change of the machine's speed meets both. Exit status 1
when the errors are larger than promised: a median of 15 %, at worst 35 %. Threads that wait for each other tell nothing
while other programs want their cores: then it leaves these to them and takes fewer threads.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from tests.support.model import gemma_path, smollm2_path
from tests.support.safe_rung import find_safe_rung

from lilliput.engine.process import worker_environment
from lilliput.fit import Calibration, Speed, Traffic, calibrate, predict, traffic_of
from lilliput.gguf import FileSource, GgmlType, read_header
from lilliput.hardware import read_cpu
from lilliput.llama import Rung
from lilliput.llama.random_model import RandomShape, write_random_model
from lilliput.services.speeds import EXPERT_TYPE

MEDIAN_LIMIT, WORST_LIMIT = 0.15, 0.35
ROUNDS, MOST_ROUNDS = 3, 4
BUDGET_S = 200.0
RUNS, PROMPTS = 3, 2
RUN_S = 0.3
PATIENCE_S = 4.0
UNDISTURBED = 0.85
QUIET_PERCENT = 15.0
K = GgmlType


Rates = list[tuple[float, float]]
"""Tokens a second, and the part of their time in which the threads ran."""


@dataclass(slots=True)
class Case:
    """A model with the depth it is measured at, and what was measured."""

    name: str
    source: Path | RandomShape
    depth: int = 64
    generation: Rates = field(default_factory=list)
    prompt: Rates = field(default_factory=list)
    traffic: Traffic | None = None

    @property
    def calm(self) -> bool:
        """Whether enough runs had the cores."""
        return sum(busy >= UNDISTURBED for _, busy in self.generation) >= RUNS


def cases() -> list[Case]:
    """Real models, and generated ones from 100 million to 1.5 billion parameters."""
    finer = {"ffn_down": K.Q6_K, "output": K.Q6_K}
    middle = RandomShape(24, 1024, 2816, 16, 4, 32000, K.Q4_K)
    return [
        Case("SmolLM2 135M Q4_1", smollm2_path()),
        Case("Gemma 3 270M Q4_K_M", gemma_path()),
        Case("110M Q8_0", RandomShape(12, 768, 2048, 12, 4, 32000, K.Q8_0)),
        Case("330M Q4_K", middle),
        Case("330M Q4_K, 1536 deep", middle, depth=1536),
        Case("500M Q6_K", RandomShape(24, 1280, 3584, 20, 4, 32000, K.Q6_K)),
        Case("550M F16", RandomShape(16, 1536, 4096, 12, 4, 32000, K.F16)),
        Case("700M Q5_K", RandomShape(20, 1536, 5120, 12, 4, 32000, K.Q5_K)),
        Case("1.1B Q4_K and Q6_K", RandomShape(22, 2048, 5632, 32, 4, 32000, K.Q4_K, finer)),
        Case("1.5B Q4_0, output tied", RandomShape(28, 1536, 8960, 12, 2, 151936, K.Q4_0, tied=True)),
        Case(
            "900M Q4_K, 4 of 16 experts", RandomShape(16, 1024, 1024, 16, 4, 32000, K.Q4_K, experts=16, experts_used=4)
        ),
    ]


def main() -> int:
    """Measure, print the table, judge."""
    parser = argparse.ArgumentParser(prog="tests.bench.fit_speed")
    parser.add_argument("--threads", type=int, help="threads of probe and loops (default: the cores that are free)")
    asked = parser.parse_args().threads
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="lilliput-fit-speed-") as directory:
        rung = asyncio.run(find_safe_rung())
        session = Session(Path(directory) / "model.gguf", asked or _free_cores(), rung)
        while not session.run(began) and session.threads > 1 and not asked:
            session = Session(session.scratch, session.threads - 1, rung)
    errors = _print_table(session)
    took_s = time.perf_counter() - began
    _tell(f"generation: median error {median(errors):.1%}, worst {max(errors):.1%}; {took_s:.0f} s in all")
    return int(median(errors) > MEDIAN_LIMIT or max(errors) > WORST_LIMIT)


class Session:
    """All cases and calibrations with so many threads, and with the settings that this machine bears."""

    def __init__(self, scratch: Path, threads: int, rung: Rung) -> None:
        self.scratch, self.threads, self.rung = scratch, threads, rung
        self.cases = cases()
        self._lines: list[dict[str, Any]] = []

    @property
    def calibration(self) -> Calibration:
        """What the probes have told."""
        calibration = calibrate(self._lines)
        assert calibration is not None
        return calibration

    def run(self, began: float) -> bool:
        """Measure in rounds; False when other programs keep so many threads from their cores."""
        _tell(f"{self.threads} threads, {self.rung} settings")
        for number in range(MOST_ROUNDS):
            if number >= ROUNDS and (self.calm or time.perf_counter() - began > BUDGET_S):
                break
            self._round(number)
            if number == 0 and not self.calm and self.threads > 1:
                return False
        return True

    @property
    def calm(self) -> bool:
        """Whether most cases had the cores."""
        return sum(case.calm for case in self.cases) > len(self.cases) / 2

    def _round(self, number: int) -> None:
        probed: set[str] = {"F32"}
        for place, case in enumerate(self.cases[:: -1 if number % 2 else 1]):
            if number < ROUNDS or not case.calm:
                _measure(case, self.scratch, self.threads, self.rung)
            missing = sorted(set(case.traffic.weight_bytes if case.traffic else ()) - probed)
            probed.update(missing)
            missing = [name for name in missing if number < ROUNDS or not self._is_calm(name)]
            if missing:
                self._lines += _probe(missing, self.threads, self.rung, attention=place == 0)
            if number == 0 and place == 2 and self.threads > 1 and not any(one.calm for one in self.cases):
                break

    def _is_calm(self, kind: str) -> bool:
        """Whether a probe of the type had the cores."""
        return any(
            line.get("type") == kind and line["run"] == "large" and line["busy"] >= UNDISTURBED for line in self._lines
        )


def _free_cores() -> int:
    """Cores that other programs leave, at least one."""
    threads = read_cpu().compute_threads
    taken = psutil.cpu_percent(2.0) / 100 * (psutil.cpu_count() or threads)
    return max(1, min(threads, int((psutil.cpu_count() or threads) - taken + 0.6)))


def _print_table(session: Session) -> list[float]:
    calibration = session.calibration
    head = f"{'measured':>9} {'error':>7}"
    _tell(f"\n{'tokens/s':28} {'predicted':>24} {head}   {'prompt':>22} {head}")
    errors, prompt_errors = [], []
    for case in session.cases:
        assert case.traffic is not None
        forecast = predict(case.traffic, calibration, case.depth, prompt_tokens=case.depth)
        measured, prompt = _middle(case.generation), _middle(case.prompt)
        error, prompt_error = forecast.generation.mid / measured - 1, forecast.prompt.mid / prompt - 1
        errors.append(abs(error))
        prompt_errors.append(abs(prompt_error))
        note = "" if case.calm else "  (disturbed)"
        _tell(
            f"{case.name:28} {_interval(forecast.generation):>24} {measured:9.1f} {error:+7.1%}"
            f"   {_interval(forecast.prompt):>22} {prompt:9.0f} {prompt_error:+7.1%}{note}"
        )
    _tell(f"\nprompts: median error {median(prompt_errors):.1%}, worst {max(prompt_errors):.1%}")
    return errors


def _interval(speed: Speed) -> str:
    return f"{speed.mid:.1f} ({speed.low:.1f} to {speed.high:.1f})"


def _probe(types: list[str], threads: int, rung: Rung, *, attention: bool) -> list[dict[str, Any]]:
    _wait_for_quiet()
    request = {
        "types": types,
        "threads": threads,
        "rung": rung,
        "attention": attention,
        "experts": EXPERT_TYPE in types,
    }
    ended = subprocess.run(
        [sys.executable, "-m", "lilliput.llama.speed_probe"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        env=_environment(),
        check=True,
    )
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    _tell(f"calibrated {', '.join(types)} in {lines[-1]['took_s']:.1f} s")
    return lines


def _measure(case: Case, scratch: Path, threads: int, rung: Rung) -> None:
    """Make the case's model, see what it reads and time it."""
    path = case.source if isinstance(case.source, Path) else scratch
    if isinstance(case.source, RandomShape):
        write_random_model(path, case.source)
    try:
        with FileSource(path) as source:
            case.traffic = traffic_of(read_header(source))
        _loop(case, path, threads, rung)
    finally:
        scratch.unlink(missing_ok=True)


def _loop(case: Case, path: Path, threads: int, rung: Rung) -> None:
    options = {"path": str(path), "threads": threads, "depth": case.depth, "rung": rung}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.bench.fit_loop", json.dumps(options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=_environment(),
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        json.loads(child.stdout.readline())
        _, first = _ask(child, 4, prompt=False)
        tokens = max(4, min(128, int(RUN_S * 4 / first["seconds"])))
        began = time.perf_counter()
        calm = prompts = 0
        while calm < RUNS and time.perf_counter() - began < PATIENCE_S:
            wanted = prompts < PROMPTS
            prompt, run = _ask(child, tokens, prompt=wanted)
            if wanted:
                case.prompt.append((case.depth / prompt["seconds"], prompt["busy"]))
                prompts += 1 if prompt["busy"] < UNDISTURBED else PROMPTS
            case.generation.append((tokens / run["seconds"], run["busy"]))
            calm += run["busy"] >= UNDISTURBED
        child.stdin.close()


def _ask(child: subprocess.Popen[str], tokens: int, *, prompt: bool) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """What the loop says of a prompt, empty when none is wanted, and of so many tokens."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(json.dumps({"tokens": tokens, "prompt": prompt}) + "\n")
    child.stdin.flush()
    return json.loads(child.stdout.readline()), json.loads(child.stdout.readline())


def _middle(rates: Rates) -> float:
    """The middle of the runs that had the cores; where none had, the fastest."""
    calm = [rate for rate, busy in rates if busy >= UNDISTURBED]
    return median(calm) if calm else max(rates)[0]


def _wait_for_quiet() -> None:
    """Wait a little for other programs to leave the cores."""
    until = time.perf_counter() + PATIENCE_S
    while psutil.cpu_percent(0.2) > QUIET_PERCENT and time.perf_counter() < until:
        pass


def _environment() -> dict[str, str]:
    return worker_environment(os.environ)


def _tell(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
