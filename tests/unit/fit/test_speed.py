"""Predicted speeds, by costs that are easy to add up by hand, and what real runs teach."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from tests.support.model_headers import MIXTURE, SMALL, half, q4_0
from tests.unit.fit import headers as shapes

from lilliput.fit import (
    Calibration,
    DeviceShare,
    LayerTraffic,
    Speed,
    Traffic,
    TypeRate,
    assume,
    observe,
    predict,
    predict_split,
    scale_traffic,
    traffic_of,
)

PLAIN = Calibration(
    rates={"F16": TypeRate(1e-10, 1e-11), "Q4_0": TypeRate(2e-10, 2e-11), "Q6_K": TypeRate(3e-10, 3e-11)},
    layer_s=1e-5,
    token_s=3e-5,
    vocab_row_s=1e-9,
    attention_s=1e-11,
    prompt_layer_s=2e-6,
    prompt_attention_s=1e-12,
)
DENSE = traffic_of(SMALL.header(half))
MIXED = traffic_of(SMALL.header(q4_0))
EXPERTS = traffic_of(MIXTURE.header(half))
BOTH = (DENSE, MIXED, EXPERTS)


def seconds(speed: Speed) -> float:
    return 1 / speed.mid


def width(speed: Speed) -> float:
    return math.log(speed.high / speed.mid)


@pytest.mark.parametrize("traffic", [DENSE, MIXED])
@pytest.mark.parametrize("depth", [0, 1000])
def test_a_tokens_time_is_that_of_its_types_its_layers_and_its_context(traffic: Traffic, depth: int) -> None:
    weights_s = sum(size * PLAIN.rates[name].byte_s for name, size in traffic.weight_bytes.items())
    others_s = 4 * 1e-5 + 3e-5 + 1024 * 1e-9 + traffic.attention_elements(depth) * 1e-11
    assert seconds(predict(traffic, PLAIN, depth).generation) == pytest.approx(weights_s + others_s)


def test_a_prompts_time_is_that_of_its_products_and_one_output() -> None:
    tokens, elements = 300, 4 * (2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 512)
    products_s = tokens * elements * 1e-11 + 256 * 1024 * 2 * 1e-10
    others_s = tokens * 4 * 2e-6 + DENSE.prompt_attention_elements(tokens) * 1e-12
    assert tokens / predict(DENSE, PLAIN, prompt_tokens=tokens).prompt.mid == pytest.approx(products_s + others_s)


def test_the_prompt_is_as_long_as_the_depth_but_not_short() -> None:
    forecasts = {depth: predict(DENSE, PLAIN, depth).prompt for depth in (0, 512, 4000)}
    assert forecasts[0] == forecasts[512] == predict(DENSE, PLAIN, 0, prompt_tokens=512).prompt
    assert forecasts[4000] == predict(DENSE, PLAIN, 0, prompt_tokens=4000).prompt
    assert forecasts[4000].mid < forecasts[512].mid


def test_experts_cost_more_by_their_factor_and_their_layers() -> None:
    dearer = replace(PLAIN, expert_factor=2.0, expert_layer_s=5e-6)
    plain, routed = (predict(EXPERTS, costs).generation for costs in (PLAIN, dearer))
    assert seconds(routed) - seconds(plain) == pytest.approx(EXPERTS.expert_bytes["F16"] * 1e-10 + 4 * 5e-6)
    assert predict(DENSE, dearer) == predict(DENSE, PLAIN)


def test_a_cache_is_read_no_faster_than_memory() -> None:
    traffic = traffic_of(shapes.LLAMA_8B)
    narrow = replace(PLAIN, attention_s=1e-15, bandwidth_bytes_s=1e10)
    deep, empty = (seconds(predict(traffic, narrow, depth).generation) for depth in (1000, 0))
    assert deep - empty == pytest.approx(traffic.kv_bytes(1000) / 1e10)
    small = seconds(predict(traffic, narrow, 1000, kv_type="q8_0").generation)
    assert small - empty == pytest.approx((deep - empty) * 34 / 64)


def test_times_of_devices_add_up() -> None:
    fast = replace(PLAIN, rates={name: replace(rate, byte_s=1e-12) for name, rate in PLAIN.rates.items()}, layer_s=0)
    first, last = DENSE.part(0, 3, output=False), DENSE.part(3, 4, output=True)
    split = predict_split((DeviceShare(first, fast), DeviceShare(last, PLAIN)), 100)
    apart = (predict_split((DeviceShare(part, costs),), 100) for part, costs in ((first, fast), (last, PLAIN)))
    assert seconds(split.generation) == pytest.approx(sum(seconds(one.generation) for one in apart))
    whole = [predict(DENSE, costs, 100).generation.mid for costs in (PLAIN, fast)]
    assert whole[0] < split.generation.mid < whole[1]


@pytest.mark.parametrize("border", [0, 1, 4])
@pytest.mark.parametrize("traffic", BOTH)
def test_a_split_over_equal_devices_changes_nothing(traffic: Traffic, border: int) -> None:
    parts = traffic.part(0, border, output=False), traffic.part(border, 4, output=True)
    split = predict_split([DeviceShare(part, PLAIN) for part in parts], 200)
    whole = predict(traffic, PLAIN, 200)
    assert split.generation.mid == pytest.approx(whole.generation.mid)
    assert split.prompt.mid == pytest.approx(whole.prompt.mid)


def test_a_model_lies_somewhere() -> None:
    with pytest.raises(ValueError, match="at least one device"):
        predict_split(())


def test_what_takes_no_time_has_no_speed() -> None:
    nothing = Traffic((), {}, 0, 0)
    forecast = predict(nothing, PLAIN)
    assert forecast.generation == forecast.prompt == Speed(0.0, 0.0, 0.0)


@pytest.mark.parametrize("traffic", BOTH)
@pytest.mark.parametrize("costs", [PLAIN, assume(50e9), assume(400e9, "gpu")])
def test_an_interval_has_its_middle_inside(traffic: Traffic, costs: Calibration) -> None:
    forecast = predict(traffic, costs, 100)
    for speed in (forecast.generation, forecast.prompt):
        assert 0 < speed.low < speed.mid < speed.high
        assert speed.mid**2 == pytest.approx(speed.low * speed.high)


def test_weaker_grounds_make_wider_intervals() -> None:
    big = scale_traffic(DENSE, DENSE.stored_bytes * 1000, None)  # weights are all that matters
    measured = predict(big, PLAIN)
    lender = replace(PLAIN, rates={"BF16": PLAIN.rates["F16"]})
    borrowed = predict(big, lender)
    assumed = predict(big, assume(10e9))
    assert (measured.source, borrowed.source, assumed.source) == ("measured", "borrowed", "assumed")
    assert (measured.borrowed_types, borrowed.borrowed_types) == ((), ("F16",))
    assert width(measured.generation) < width(borrowed.generation) < width(assumed.generation)
    assert width(measured.prompt) < width(borrowed.prompt) < width(assumed.prompt)


def test_the_weakest_share_names_the_source() -> None:
    parts = DENSE.part(0, 2, output=False), DENSE.part(2, 4, output=True)
    shares = [DeviceShare(parts[0], PLAIN), DeviceShare(parts[1], assume(100e9, "gpu"))]
    assert predict_split(shares).source == "assumed"


def test_a_guessed_mix_makes_the_interval_wider() -> None:
    guessed = replace(DENSE, guessed=True)
    told, told_wider = predict(DENSE, PLAIN).generation, predict(guessed, PLAIN).generation
    assert told.mid == told_wider.mid
    assert width(told_wider) == pytest.approx(width(told) + 0.1)


@pytest.mark.parametrize("costs", [PLAIN, assume(50e9)])
def test_more_bytes_are_never_faster(costs: Calibration) -> None:
    sizes = [DENSE.stored_bytes * step // 4 for step in range(1, 40, 3)]
    for name in (None, "Q4_K_M", "Q8_0"):
        forecasts = [predict(scale_traffic(DENSE, size, name), costs, 100) for size in sizes]
        for pick in ("low", "mid", "high"):
            speeds = [getattr(one.generation, pick) for one in forecasts]
            assert speeds == sorted(speeds, reverse=True)
        assert forecasts[0].generation.mid > forecasts[-1].generation.mid


def test_a_deeper_context_is_never_faster() -> None:
    speeds = [predict(DENSE, PLAIN, depth).generation.mid for depth in (0, 10, 1000, 100_000)]
    assert speeds == sorted(speeds, reverse=True)
    assert len(set(speeds)) == 4


@pytest.mark.parametrize("factor", [0.1, 0.5, 0.9, 1.1, 2.0, 50.0])
@pytest.mark.parametrize("traffic", BOTH)
def test_a_real_run_moves_predictions_towards_it_by_a_bounded_step(traffic: Traffic, factor: float) -> None:
    before = predict(traffic, PLAIN, 100).generation.mid
    after = predict(traffic, observe(PLAIN, traffic, 100, generation=before * factor), 100).generation.mid
    step = math.log(after / before)
    assert step * math.log(factor) > 0
    assert abs(step) < abs(math.log(factor))
    assert abs(step) <= 0.3 * math.log(2) + 1e-9


@pytest.mark.parametrize("factor", [0.4, 0.8, 1.5, 3.0])
def test_repeated_runs_bring_predictions_there(factor: float) -> None:
    costs = replace(PLAIN, token_s=0.0, vocab_row_s=0.0, attention_s=0.0)
    speed = predict(DENSE, costs, 100).generation.mid * factor
    for _ in range(60):
        costs = observe(costs, DENSE, 100, generation=speed)
    assert predict(DENSE, costs, 100).generation.mid == pytest.approx(speed, rel=0.01)
    assert costs.observations == 60
    assert costs.error < 0.05


def test_runs_as_predicted_change_no_cost_and_narrow_the_interval() -> None:
    start = assume(20e9)
    costs, before = start, predict(DENSE, start, 100).generation
    for _ in range(20):
        costs = observe(costs, DENSE, 100, generation=before.mid)
    after = predict(DENSE, costs, 100)
    assert after.generation.mid == pytest.approx(before.mid)
    assert width(after.generation) < width(before)
    assert after.source == "measured"
    assert costs.rate("Q4_0") == start.rate("Q4_0")  # of other types nothing was learnt


def test_surprises_widen_the_interval() -> None:
    before = predict(DENSE, PLAIN, 100).generation
    after = predict(DENSE, observe(PLAIN, DENSE, 100, generation=before.mid / 3), 100).generation
    assert width(after) > width(before)


def test_each_type_moves_by_its_part_of_the_time() -> None:
    costs = observe(PLAIN, MIXED, 0, generation=predict(MIXED, PLAIN).generation.mid / 2)
    moved = {name: math.log(costs.rates[name].byte_s / PLAIN.rates[name].byte_s) for name in PLAIN.rates}
    parts = {name: size * PLAIN.rates[name].byte_s for name, size in MIXED.weight_bytes.items()}
    assert moved["F16"] == 0
    assert moved["Q4_0"] / moved["Q6_K"] == pytest.approx(parts["Q4_0"] / parts["Q6_K"])
    assert costs.layer_s > PLAIN.layer_s
    assert all(costs.rates[name].element_s == PLAIN.rates[name].element_s for name in PLAIN.rates)


def test_a_borrowed_type_that_ran_is_known_itself() -> None:
    lender = replace(PLAIN, rates={"BF16": PLAIN.rates["F16"]})
    costs = observe(lender, DENSE, 0, generation=predict(DENSE, lender).generation.mid)
    assert costs.measured_types == {"BF16", "F16"}
    assert costs.rate("F16").byte_s == pytest.approx(1e-10, abs=0)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_prompt_moves_costs_of_prompts_alone(factor: float) -> None:
    speed = predict(DENSE, PLAIN, prompt_tokens=600).prompt.mid * factor
    costs = observe(PLAIN, DENSE, 600, prompt=speed)
    after = predict(DENSE, costs, prompt_tokens=600).prompt.mid
    assert min(1, factor) < after * factor / speed < max(1, factor)
    assert predict(DENSE, costs, 100).generation == predict(DENSE, PLAIN, 100).generation


@pytest.mark.parametrize("speed", [None, 0.0, -1.0, float("nan")])
def test_what_is_no_speed_is_passed_over(speed: float | None) -> None:
    assert observe(PLAIN, DENSE, 100, generation=speed, prompt=speed) == PLAIN


def test_nothing_is_learnt_of_a_part_without_layers() -> None:
    nothing = Traffic((LayerTraffic({}, graph=0.0),), {}, 0, 0)
    assert observe(PLAIN, nothing, 0, generation=10.0, prompt=10.0) == PLAIN
