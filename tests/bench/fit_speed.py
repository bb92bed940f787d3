"""Forecasts of speed against the bare loop, in one run: ``python -m tests.bench.fit_speed``.

The probe that calibrates and the loops take turns, so that a change of the machine's speed meets both. Exit status 1
when the errors are larger than promised: a median of 15 %, at worst 35 %.
"""

from __future__ import annotations

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

from tests.support.model import gemma_path, smollm2_path

from lilliput.engine.process import worker_environment
from lilliput.fit import Calibration, Speed, Traffic, calibrate, predict, traffic_of
from lilliput.gguf import FileSource, GgmlType, read_header
from lilliput.hardware import read_cpu
from lilliput.llama.random_model import RandomShape, write_random_model

MEDIAN_LIMIT, WORST_LIMIT = 0.15, 0.35
ROUNDS = 2
RUNS = 3
RUN_S = 0.5
PATIENCE_S = 6.0
UNDISTURBED = 0.85
K = GgmlType


@dataclass(slots=True)
class Case:
    """A model with the depth it is measured at, and what was measured: tokens a second."""

    name: str
    source: Path | RandomShape
    depth: int = 64
    generation: list[float] = field(default_factory=list)
    prompt: list[float] = field(default_factory=list)
    disturbed: int = 0
    traffic: Traffic | None = None


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
    began = time.perf_counter()
    threads = read_cpu().compute_threads
    known = cases()
    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="lilliput-fit-speed-") as directory:
        for case in known:
            _measure(case, Path(directory) / "model.gguf", threads, rounds=0)
        types = sorted({name for case in known if case.traffic for name in case.traffic.weight_bytes} - {"F32"})
        for number in range(ROUNDS):
            for at, case in enumerate(known):
                lines += _probe(types[at :: len(known)], threads, attention=at == number)
                _measure(case, Path(directory) / "model.gguf", threads, rounds=RUNS)
    calibration = calibrate(lines)
    assert calibration is not None
    errors = _print_table(known, calibration)
    _tell(f"\nmedian error {median(errors):.1%}, worst {max(errors):.1%}; {time.perf_counter() - began:.0f} s in all")
    return int(median(errors) > MEDIAN_LIMIT or max(errors) > WORST_LIMIT)


def _print_table(known: list[Case], calibration: Calibration) -> list[float]:
    head = f"{'measured':>9} {'error':>7}"
    _tell(f"\n{'tokens/s':28} {'predicted':>24} {head}   {'prompt':>22} {head}")
    errors = []
    for case in known:
        assert case.traffic is not None
        forecast = predict(case.traffic, calibration, case.depth, prompt_tokens=case.depth)
        measured, prompt = median(case.generation), median(case.prompt)
        error, prompt_error = forecast.generation.mid / measured - 1, forecast.prompt.mid / prompt - 1
        errors.append(abs(error))
        note = f"  ({case.disturbed} runs disturbed)" if case.disturbed else ""
        _tell(
            f"{case.name:28} {_interval(forecast.generation):>24} {measured:9.1f} {error:+7.1%}"
            f"   {_interval(forecast.prompt):>22} {prompt:9.0f} {prompt_error:+7.1%}{note}"
        )
    return errors


def _interval(speed: Speed) -> str:
    return f"{speed.mid:.1f} ({speed.low:.1f} to {speed.high:.1f})"


def _probe(types: list[str], threads: int, *, attention: bool) -> list[dict[str, Any]]:
    if not types and not attention:
        return []
    kinds = types or ["Q8_0"]
    request = {"types": kinds, "threads": threads, "attention": attention, "experts": "Q4_K" in types}
    ended = subprocess.run(
        [sys.executable, "-m", "lilliput.llama.speed_probe"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        env=_environment(),
        check=True,
    )
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    _tell(f"calibrated {', '.join(kinds)} in {lines[-1]['took_s']:.1f} s")
    return lines


def _measure(case: Case, scratch: Path, threads: int, *, rounds: int) -> None:
    """Time the case; with no rounds only see what it reads."""
    path = case.source if isinstance(case.source, Path) else scratch
    if isinstance(case.source, RandomShape):
        write_random_model(path, case.source)
    try:
        with FileSource(path) as source:
            case.traffic = traffic_of(read_header(source))
        if rounds:
            _loop(case, path, threads, rounds)
    finally:
        scratch.unlink(missing_ok=True)


def _loop(case: Case, path: Path, threads: int, rounds: int) -> None:
    options = {"path": str(path), "threads": threads, "depth": case.depth, "extra_buffers": True}
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

        def ask(tokens: int, *, prompt: bool) -> tuple[Mapping[str, float], Mapping[str, float]]:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(json.dumps({"tokens": tokens, "prompt": prompt}) + "\n")
            child.stdin.flush()
            return json.loads(child.stdout.readline()), json.loads(child.stdout.readline())

        _, first = ask(4, prompt=False)
        tokens = max(4, min(128, int(RUN_S * 4 / first["seconds"])))
        began = time.perf_counter()
        clean: list[float] = []
        rest: list[float] = []
        while len(clean) < rounds and time.perf_counter() - began < PATIENCE_S:
            first_time = not clean and not rest
            prompt, run = ask(tokens, prompt=first_time)
            if first_time:
                case.prompt.append(case.depth / prompt["seconds"])
            (clean if run["busy"] >= UNDISTURBED else rest).append(tokens / run["seconds"])
        child.stdin.close()
    case.disturbed += max(0, rounds - len(clean))
    case.generation += clean or [max(rest)]


def _environment() -> dict[str, str]:
    return worker_environment(os.environ)


def _tell(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
