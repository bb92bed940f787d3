"""Costs from lines of the probe that are made from known costs."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.fit.probe_lines import Costs, Line

from lilliput.fit import Calibration, assume, calibrate, observe
from lilliput.fit.calibration import ASSUMED_ERROR, BORROWED_ERROR, MEASURED_ERROR, DeviceKind
from lilliput.fit.traffic import LayerTraffic, Traffic
from lilliput.gguf import GgmlType

COSTS = Costs()


def near(value: float) -> Any:
    """As good as this cost, which may be less than what ``approx`` overlooks."""
    return pytest.approx(value, rel=1e-6, abs=0)


def made(lines: list[Line], previous: Calibration | None = None) -> Calibration:
    calibration = calibrate(lines, bandwidth_bytes_s=25e9, previous=previous)
    assert calibration is not None
    return calibration


def with_run(line: Line, *, times: float, busy: float) -> Line:
    """The same run, so many times as slow."""
    return line | {name: line[name] * times for name in ("decode_s", "sample_s", "prompt_s")} | {"busy": busy}


def test_the_costs_that_lines_were_made_of_are_recovered() -> None:
    known = made(COSTS.lines())
    for name, byte_s in COSTS.byte_s.items():
        assert known.rate(name).byte_s == near(byte_s)
        assert known.rate(name).element_s == near(COSTS.element_s)
        assert (known.rate(name).source, known.rate(name).error) == ("measured", MEASURED_ERROR)
    assert known.measured_types == {"F16", "Q4_K", "Q8_0"}
    assert known.layer_s == near(COSTS.layer_s)
    assert known.token_s == near(COSTS.token_s)
    assert known.vocab_row_s == near(COSTS.vocab_row_s)
    assert known.attention_s == near(COSTS.attention_s)
    assert known.prompt_attention_s == near(COSTS.prompt_attention_s)
    assert known.prompt_layer_s == near(COSTS.prompt_layer_s)
    assert known.bandwidth_bytes_s == 25e9
    assert (known.observations, known.error) == (0, MEASURED_ERROR)


def test_what_experts_cost_more_is_recovered() -> None:
    known = made(COSTS.lines(experts=True))
    assert known.expert_factor == near(1.5)
    assert known.prompt_expert_factor == pytest.approx(2.0, rel=0.01)
    assert known.expert_layer_s == 0
    assert known.experts_measured
    unmeasured = made(COSTS.lines())
    assert unmeasured.expert_factor == 1
    assert not unmeasured.experts_measured
    assert unmeasured.expert_layer_s == near(COSTS.layer_s / 2)


def test_disturbed_runs_are_passed_over_where_others_are_there() -> None:
    lines = COSTS.lines()
    disturbed = [with_run(line, times=3, busy=0.4) for line in lines if "busy" in line]
    assert made([*disturbed, *lines]) == made(lines)


def test_of_repeated_runs_the_middle_counts() -> None:
    lines = COSTS.lines()
    runs = [line for line in lines if "busy" in line]
    others = [with_run(line, times=times, busy=1.0) for times in (0.5, 3) for line in runs]
    known, once = made([*others, *lines]), made(lines)
    for name in COSTS.byte_s:
        assert known.rate(name).byte_s == near(once.rate(name).byte_s)
    assert known.token_s == near(once.token_s)


def test_only_disturbed_runs_count_with_more_uncertainty() -> None:
    lines = [line | {"busy": 0.4} if "busy" in line else line for line in COSTS.lines(["F16"])]
    rate = made(lines).rate("F16")
    assert (rate.source, rate.error) == ("measured", BORROWED_ERROR)
    assert rate.byte_s == near(COSTS.byte_s["F16"])


def test_on_accelerators_idle_threads_are_no_disturbance() -> None:
    lines = [line | {"busy": 0.1} if "busy" in line else line for line in COSTS.lines(["F16"])]
    known = calibrate(lines, trust_busy=False)
    assert known is not None
    assert known.rate("F16").error == MEASURED_ERROR


def test_what_was_known_before_is_kept() -> None:
    before = replace(made(COSTS.lines(["F16"], experts=True)), observations=7, error=0.2)
    faster = replace(COSTS, byte_s={"Q4_K": 4e-11, "Q8_0": 3e-11})
    lines = [line for line in faster.lines(["Q4_K"]) if line["run"] != "attention"]
    after = calibrate(lines, previous=before)
    assert after is not None
    assert after.rates["F16"] == before.rates["F16"]
    assert after.rate("Q4_K").byte_s == near(4e-11)
    assert (after.attention_s, after.prompt_attention_s) == (before.attention_s, before.prompt_attention_s)
    assert (after.expert_factor, after.expert_layer_s) == (before.expert_factor, before.expert_layer_s)
    assert after.experts_measured
    assert (after.bandwidth_bytes_s, after.observations, after.error) == (25e9, 7, 0.2)
    again = made(COSTS.lines(["Q4_K"]), previous=after)
    assert again.rate("Q4_K").byte_s == near(COSTS.byte_s["Q4_K"])


@pytest.mark.parametrize("kept", [("done",), ("small", "done"), ("large", "attention"), ()])
def test_a_type_that_was_not_measured_whole_is_not_known(kept: tuple[str, ...]) -> None:
    lines = [line for line in COSTS.lines(["F16"]) if line["run"] in kept]
    assert calibrate(lines) is None
    before = made(COSTS.lines(["Q4_K"]))
    assert calibrate(lines, previous=before) == before


def test_lines_before_a_crash_count() -> None:
    lines = COSTS.lines(["F16", "Q8_0"])
    cut = lines[: next(at for at, line in enumerate(lines) if (line["run"], line.get("type")) == ("large", "Q8_0"))]
    assert made(cut).measured_types == {"F16"}


def test_without_a_measure_of_attention_it_costs_as_much_as_weights() -> None:
    lines = [line for line in COSTS.lines() if line["run"] != "attention"]
    known = made(lines)
    assert known.attention_s == known.prompt_attention_s == near(COSTS.element_s)


def test_noise_does_not_make_costs_negative() -> None:
    lines = COSTS.lines(["F16"])
    small, large = lines[0], lines[1]
    odd = [
        small | {"decode_s": large["decode_s"] / 100, "sample_s": large["sample_s"] / 10, "prompt_s": 1e-9},
        large,
        {**lines[2], "decode_s": 0.0, "prompt_s": 0.0},
    ]
    known = made(odd)
    costs = (known.layer_s, known.token_s, known.vocab_row_s, known.attention_s, known.prompt_layer_s)
    assert min(costs) >= 0
    assert known.rate("F16").byte_s > 0


def test_a_kindred_type_takes_as_long_for_an_element() -> None:
    known = replace(made(COSTS.lines()), bandwidth_bytes_s=None)
    borrowed, lender = known.rate("Q5_K"), known.rate("Q4_K")
    assert borrowed.byte_s * 176 == near(lender.byte_s * 144)
    assert borrowed.element_s == lender.element_s
    assert (borrowed.source, borrowed.error) == ("borrowed", BORROWED_ERROR)
    assert "Q5_K" not in known.measured_types


@pytest.mark.parametrize(
    ("kind", "lender"),
    [("BF16", "F16"), ("Q5_K", "Q4_K"), ("Q3_K", "Q4_K"), ("Q5_1", "Q8_0"), ("IQ4_NL", "Q8_0"), ("IQ3_S", "Q4_K")],
)
def test_the_nearest_kin_lends(kind: str, lender: str) -> None:
    rates = {"F16": 5e-11, "Q4_K": 8e-11, "Q8_0": 6e-11, "Q6_K": 9e-11}
    element_s = {name: 1e-11 * at for at, name in enumerate(rates, 1)}
    lines = [
        line | {"prompt_s": line["prompt_s"] * element_s[line["type"]] / COSTS.element_s} if "type" in line else line
        for line in replace(COSTS, byte_s=rates, prompt_layer_s=0.0).lines(rates)
    ]
    assert made(lines).rate(kind).element_s == near(element_s[lender])


def test_plain_types_borrow_by_the_byte_and_none_is_faster_than_memory() -> None:
    known = made(COSTS.lines(["F16"]))
    assert known.rate("BF16").byte_s == known.rate("F16").byte_s
    assert known.rate("F32").byte_s == known.rate("F16").byte_s
    slow_memory = replace(known, bandwidth_bytes_s=1e9)
    assert slow_memory.rate("BF16").byte_s == 1e-9


def test_every_type_has_a_rate_once_one_is_known() -> None:
    for known in (made(COSTS.lines(["Q4_K"])), assume(50e9)):
        for kind in GgmlType:
            assert known.rate(kind.name).byte_s > 0
            assert known.rate(kind.name).element_s > 0


@pytest.mark.parametrize("kind", ["cpu", "unified", "gpu"])
def test_an_unmeasured_device_is_assumed_from_its_bandwidth(kind: DeviceKind) -> None:
    slow, fast = assume(50e9, kind), assume(100e9, kind)
    assert slow.measured_types == frozenset()
    assert slow.bandwidth_bytes_s == 50e9
    for name in ("F16", "Q8_0", "Q4_K", "IQ2_XXS"):
        rate = slow.rate(name)
        assert (rate.source, rate.error) == ("assumed", ASSUMED_ERROR)
        assert rate.byte_s > 1 / 50e9  # nothing is faster than memory
        assert rate.byte_s == near(2 * fast.rate(name).byte_s)
    assert slow.rate("F16").byte_s < slow.rate("Q4_K").byte_s < slow.rate("IQ2_XXS").byte_s
    assert slow.rate("Q1_0").source == "assumed"  # borrowed from what is assumed


def test_a_known_peak_bounds_prompts_and_leaves_generation_to_the_bandwidth() -> None:
    plain, card = assume(936e9, "gpu"), assume(936e9, "gpu", flops=71e12)
    assert card.rate("Q4_K").byte_s == plain.rate("Q4_K").byte_s
    assert 7e9 * card.rate("Q4_K").element_s == pytest.approx(1 / 3300, rel=0.01)  # seconds a token of a 7B model
    assert card.prompt_attention_s == card.rate("F16").element_s


def test_accelerators_process_prompts_faster_for_their_bandwidth() -> None:
    cpu, unified, gpu = (assume(100e9, kind).rate("Q4_K").element_s for kind in ("cpu", "unified", "gpu"))
    assert cpu > unified > gpu


def test_a_calibration_survives_as_text() -> None:
    traffic = Traffic((LayerTraffic({"Q5_K": 10_000_000}),), {}, 0, 10_000_000)
    known = made(COSTS.lines(experts=True))
    for one in (known, assume(50e9, "gpu"), observe(known, traffic, 10, generation=100.0)):
        assert Calibration.from_json(one.to_json()) == one


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", "{}", '"x"', '{"version": 1}', '{"version": 1, "rates": {"F16": {"other": 1}}}'],
)
def test_a_text_that_is_no_calibration_is_none(text: str) -> None:
    assert Calibration.from_json(text) is None


def test_a_text_of_another_version_or_shape_is_none() -> None:
    said = json.loads(made(COSTS.lines()).to_json())
    assert Calibration.from_json(json.dumps(said | {"version": 1})) is None
    assert Calibration.from_json(json.dumps(said | {"unknown": 1.0})) is None
    assert Calibration.from_json(json.dumps(said | {"rates": {}})) is None
    assert Calibration.from_json(json.dumps({key: value for key, value in said.items() if key != "layer_s"})) is None
