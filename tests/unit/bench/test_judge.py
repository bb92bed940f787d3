from __future__ import annotations

import pytest
from bench.judge import Sample, State, judge, judge_all, ratios, spread
from bench.rules import RATE_RULES, RULES, Rule
from bench.workloads import workloads

FASTER = Rule("a1", "tokens_s", "ours", "theirs", 1.0, 1.1)
SOONER = Rule("a8", "ttft_p50_s", "ours", "theirs", 0.65, 0.5, at_least=False)


def _samples(workload: str, measure: str, ours: list[float], theirs: list[float]) -> list[Sample]:
    pairs = (("ours", ours), ("theirs", theirs))
    return [
        Sample(workload, label, number, {measure: value})
        for label, values in pairs
        for number, value in enumerate(values)
    ]


def test_ratios_are_made_pair_by_pair() -> None:
    samples = _samples("a1", "tokens_s", [10.0, 30.0], [5.0, 10.0])
    assert ratios(samples, FASTER) == [2.0, 3.0]


def test_half_a_pair_and_a_division_by_nothing_are_left_out() -> None:
    samples = _samples("a1", "tokens_s", [10.0, 30.0, 8.0], [5.0, 0.0])
    assert ratios(samples, FASTER) == [2.0]


def test_a_rule_without_another_takes_the_measure_itself() -> None:
    assert ratios(_samples("a1", "tokens_s", [7.0], []), Rule("a1", "tokens_s", "ours", None, 1, 1)) == [7.0]


@pytest.mark.parametrize(
    ("rule", "values", "state", "short_by"),
    [
        (FASTER, [1.0, 1.2, 1.3], "aim", 0.0),
        (FASTER, [0.7, 1.05, 1.3], "floor", 0.0),
        (FASTER, [0.7, 0.9, 1.3], "missed", 0.1),
        (SOONER, [0.4, 0.5, 0.9], "aim", 0.0),
        (SOONER, [0.4, 0.6, 0.9], "floor", 0.0),
        (SOONER, [0.4, 0.75, 0.9], "missed", 0.1),
        (FASTER, [], "not measured", 0.0),
    ],
)
def test_the_median_is_judged(rule: Rule, values: list[float], state: State, short_by: float) -> None:
    verdict = judge(rule, values)
    assert verdict.state == state
    assert verdict.short_by == pytest.approx(short_by)


def test_one_failed_request_in_one_round_is_one_too_many() -> None:
    rule = next(rule for rule in RULES if rule.measure == "failures")
    assert judge(rule, [0.0, 0.0, 1.0]).state == "missed"
    assert judge(rule, [0.0, 0.0]).state == "aim"


def test_spread_of_an_even_number_of_values() -> None:
    value = spread([4.0, 1.0, 2.0, 3.0])
    assert value is not None
    assert (value.median, value.low, value.high, value.count) == (2.5, 1.0, 4.0, 4)


def test_each_rule_is_about_contestants_that_take_part() -> None:
    labels = {workload.key: {part.label for part in workload.parts} for workload in workloads()}
    for rule in RULES:
        if rule.workload in labels:
            assert {rule.subject, rule.against or rule.subject} <= labels[rule.workload]
    assert {rule.workload for rule in RULES} - set(labels) == {"null", "memory", "start"}


def test_an_aim_is_never_easier_than_its_floor() -> None:
    assert all(
        (rule.aim >= rule.floor) if rule.at_least else (rule.aim <= rule.floor) for rule in (*RULES, *RATE_RULES)
    )


def test_what_nobody_measured_is_no_failure() -> None:
    assert {verdict.state for verdict in judge_all(RULES, [])} == {"not measured"}
