"""The speed probe: what it generates, how it judges its passes, and a real child on a tiny request."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lilliput.engine import worker_environment
from lilliput.fit import Traffic, calibrate, predict, traffic_of
from lilliput.gguf import BytesSource, GgmlType, place_tensors, read_header
from lilliput.gguf.writer import encode_header
from lilliput.llama import random_model, speed_probe
from lilliput.llama.random_model import RANDOM_KINDS, RandomShape
from lilliput.llama.speed_probe import (
    PROMPT_TOKENS,
    Pass,
    ProbeRequest,
    expert_shape,
    large_shape,
    measure,
    quiet,
    read_request,
    small_shape,
    weight_bytes,
)
from lilliput.units import MIB

KINDS = sorted(RANDOM_KINDS, key=lambda kind: kind.name)
REQUEST: dict[str, Any] = {"threads": 1, "rung": "no-extra-buffers", "large_bytes": 1_000_000}
SECONDS = ["decode_s", "sample_s", "prompt_s"]
FIELDS = ["run", "type", "layers", "vocabulary", "weight_bytes", "expert_bytes", *SECONDS, "prompt_tokens", "busy"]


def traffic(shape: RandomShape) -> Traffic:
    """What a token reads of such a model, by the file's header."""
    content = encode_header(random_model._metadata(shape), place_tensors(random_model._tensors(shape)))
    return traffic_of(read_header(BytesSource(content, complete=False)))


def run_child(*arguments: str, request: dict[str, Any]) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, lines and standard error of a child with an engine worker's environment."""
    ended = subprocess.run(
        [sys.executable, *arguments],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=60,
        env=worker_environment(os.environ),
        check=False,
    )
    return ended.returncode, [json.loads(line) for line in ended.stdout.splitlines()], ended.stderr


def run_probe(**request: Any) -> tuple[int, list[dict[str, Any]], str]:
    return run_child("-m", "lilliput.llama.speed_probe", request={**REQUEST, **request})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_what_it_says_a_token_reads_is_what_the_model_has(kind: GgmlType) -> None:
    for shape in (small_shape(kind), large_shape(kind, 96 * MIB), expert_shape(kind, 96 * MIB)):
        read = traffic(shape)
        routers = 4 * shape.layers * shape.width * shape.experts
        told, experts = weight_bytes(shape)
        assert told == sum(read.weight_bytes.values()) - routers
        assert experts == sum(read.expert_bytes.values())


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_large_models_are_beyond_caches_and_small_ones_are_not(kind: GgmlType) -> None:
    large, small = large_shape(kind, 96 * MIB), small_shape(kind)
    assert 70 * MIB < weight_bytes(large)[0] < 130 * MIB
    assert weight_bytes(small)[0] < 50 * MIB
    assert small.layers > large.layers
    assert small.vocabulary != large.vocabulary
    read, experts = weight_bytes(expert_shape(kind, 96 * MIB))
    assert 15 * MIB < experts < read < 130 * MIB


def test_the_cost_of_attention_is_told_in_the_products_that_predictions_count() -> None:
    shape = small_shape(GgmlType.F16)
    subject = _Played(ExitStack(), ProbeRequest(("F16",)), shape, Path())
    subject.passes.decode.append(Pass(0.001, 1.0))
    line = speed_probe._measure_attention(subject)  # type: ignore[arg-type]
    read = traffic(shape)
    assert line["elements"] == read.attention_elements(1024) - read.attention_elements(PROMPT_TOKENS)
    last = read.prompt_attention_elements(1024) - read.prompt_attention_elements(768)
    assert line["prompt_elements"] == last - read.prompt_attention_elements(256)


def test_the_middle_of_undisturbed_passes_counts() -> None:
    undisturbed = [Pass(seconds, 0.95) for seconds in (5.0, 3.0, 4.0, 9.0, 3.5)]
    assert quiet([*undisturbed, *[Pass(1.0, 0.5)] * 9]) == Pass(4.0, 0.95)
    assert quiet([Pass(2.0, 0.9)]) == Pass(2.0, 0.9)


def test_where_few_are_undisturbed_the_faster_ones_count_and_say_so() -> None:
    passes = [Pass(float(at), 0.4) for at in range(8, 0, -1)]
    assert quiet([*passes, Pass(20.0, 1.0)]) == Pass(3.0, 0.4)


def test_a_request_has_defaults() -> None:
    assert read_request({"types": ["Q4_K", "F16"]}) == ProbeRequest(types=("Q4_K", "F16"))
    assert read_request({"types": ["F16"], "threads": 2, "experts": True}) == ProbeRequest(
        ("F16",), threads=2, experts=True
    )


@pytest.mark.parametrize(
    ("said", "error", "names"),
    [
        ({"types": ["F16", "Q9_9"]}, KeyError, "Q9_9"),
        ({"types": ["F16"], "speed": 1}, TypeError, "speed"),
        ({"threads": 1}, KeyError, "types"),
    ],
)
def test_what_a_request_has_wrong_is_named(said: dict[str, Any], error: type[Exception], names: str) -> None:
    with pytest.raises(error, match=names):
        read_request(said)


@dataclass
class _Clock:
    """Time that passes only when a played model computes."""

    now: float = 0.0

    def perf_counter(self) -> float:
        return self.now


CLOCK = _Clock()


class _Cache:
    def drop(self, _sequence: int) -> None:
        pass


class _Played:
    """A model whose every round takes 0.9 seconds of the played clock."""

    def __init__(self, _stack: ExitStack, _request: ProbeRequest, shape: RandomShape, _directory: Path) -> None:
        self.shape, self.rounds = shape, 0
        self.passes = speed_probe._Passes()
        self.context = _Cache()

    def prompt(self) -> None:
        self.passes.prompt.append(Pass(0.1, 1.0))

    def forward(self, position: int, _count: int) -> float:
        return 0.1 + position * 1e-4

    def round(self, depth: int = PROMPT_TOKENS) -> list[Pass]:
        CLOCK.now += 0.9
        self.rounds += 1
        self.passes.sample.append(Pass(1e-5, 1.0))
        return [Pass(0.001 * self.rounds + depth * 1e-6, 1.0)]

    def report(self, name: str) -> dict[str, Any]:
        return {"run": name, "type": self.shape.kind.name, "rounds": self.rounds}


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> None:
    CLOCK.now = 0.0
    monkeypatch.setattr(speed_probe, "_Subject", _Played)
    monkeypatch.setattr(speed_probe, "time", CLOCK)


def test_what_was_not_reached_in_time_is_named(played: None) -> None:
    *lines, done = measure(ProbeRequest(("F16", "Q8_0", "Q4_K", "Q6_K"), seconds=4.0, attention=False))
    assert [(line["run"], line["type"]) for line in lines] == [
        (run, kind) for kind in ("F16", "Q8_0") for run in ("small", "large")
    ]
    assert done == {"run": "done", "took_s": pytest.approx(7.2), "skipped": ["Q4_K", "Q6_K"]}


def test_a_type_takes_a_bounded_time_and_sizes_take_turns(played: None) -> None:
    lines = list(measure(ProbeRequest(("F16",), seconds=100.0, attention=False, experts=True)))
    assert [(line["run"], line["rounds"]) for line in lines[:-1]] == [("small", 1), ("large", 1), ("experts", 1)]


def test_attention_is_measured_once(played: None) -> None:
    lines = list(measure(ProbeRequest(("F16", "Q8_0"), seconds=100.0)))
    assert [line["run"] for line in lines] == ["small", "large", "attention", "small", "large", "done"]
    assert not list(measure(ProbeRequest((), seconds=1.0)))[:-1]


def test_the_directory_of_models_is_removed(tmp_path: Path, played: None) -> None:
    list(measure(ProbeRequest(("F16",), directory=str(tmp_path))))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, list[dict[str, Any]], str, Path]:
    """A real run over a type that can be made, and one that cannot."""
    directory = tmp_path_factory.mktemp("probe")
    return *run_probe(types=["Q4_0", "IQ2_XXS"], directory=str(directory)), directory


Real = tuple[int, list[dict[str, Any]], str, Path]


def test_a_real_run_prints_well_formed_lines(real: Real) -> None:
    small, large, attention = real[1]
    for name, line in (("small", small), ("large", large)):
        assert sorted(line) == sorted(FIELDS)
        assert (line["run"], line["type"], line["expert_bytes"]) == (name, "Q4_0", {})
        assert min(line[field] for field in SECONDS) > 0
        assert line["prompt_tokens"] == PROMPT_TOKENS
        assert 0 < line["busy"] < 1.5
    assert (large["layers"], large["weight_bytes"]) == (1, {"Q4_0": weight_bytes(large_shape(GgmlType.Q4_0, 1))[0]})
    assert sorted(attention) == sorted(["run", "elements", "decode_s", "prompt_elements", "prompt_s"])
    assert attention["decode_s"] >= 0
    assert attention["prompt_s"] >= 0


def test_a_real_run_predicts_itself(real: Real) -> None:
    known = calibrate(real[1])
    assert known is not None
    assert known.measured_types == {"Q4_0"}
    large = real[1][1]
    model = traffic(large_shape(GgmlType.Q4_0, REQUEST["large_bytes"]))
    told_s = 1 / predict(model, known).generation.mid
    assert told_s == pytest.approx(large["decode_s"] + large["sample_s"], rel=0.05)


def test_what_was_printed_before_a_failure_holds_and_nothing_is_left(real: Real) -> None:
    code, lines, errors, directory = real
    assert code != 0
    assert [line["run"] for line in lines] == ["small", "large", "attention"]
    assert "no random model can be made of IQ2_XXS" in errors
    assert list(directory.iterdir()) == []


def test_a_real_run_without_time_measures_nothing() -> None:
    code, lines, _ = run_probe(types=["Q4_0", "F16"], seconds=0)
    assert code == 0
    assert [(line["run"], line["skipped"]) for line in lines] == [("done", ["Q4_0", "F16"])]


def test_an_unknown_type_ends_the_run_before_anything_is_measured() -> None:
    code, lines, errors = run_probe(types=["F16", "Q9_9"])
    assert code != 0
    assert lines == []
    assert "Q9_9" in errors


CRASH = """
import os
from lilliput.llama import speed_probe

def measure_type(request, kind, directory, *, attention):
    if kind.name == "F16":
        os._exit(134)
    yield {"run": "large", "type": kind.name}

speed_probe._measure_type = measure_type
speed_probe.main()
"""


def test_a_crash_takes_no_line_back() -> None:
    code, lines, _ = run_child("-c", CRASH, request={"types": ["Q8_0", "F16"]})
    assert code == 134
    assert lines == [{"run": "large", "type": "Q8_0"}]
