"""Medians of pairs, their spread, and whether they keep the rules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from bench.measures import Figures
from bench.rules import Rule

State = Literal["aim", "floor", "missed", "not measured"]


@dataclass(frozen=True, slots=True)
class Sample:
    """The figures of one round: the ``number``-th of its workload, by the contestant ``label``."""

    workload: str
    label: str
    number: int
    figures: Figures


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some values, and the least and the largest of them."""

    median: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule's measure came to; ``short_by`` is how far the median is from the floor, 0 if it holds."""

    rule: Rule
    value: Spread | None
    state: State
    short_by: float = 0.0


def spread(values: Sequence[float]) -> Spread | None:
    """The spread of ``values``; None of none."""
    return Spread(median(values), min(values), max(values), len(values)) if values else None


def ratios(samples: Iterable[Sample], rule: Rule) -> list[float]:
    """The rule's measure, pair by pair; pairs of which one half is missing or divides by 0 are left out."""
    found: dict[tuple[str, int], float] = {
        (one.label, one.number): one.figures[rule.measure]
        for one in samples
        if one.workload == rule.workload and rule.measure in one.figures
    }
    mine = {number: value for (label, number), value in found.items() if label == rule.subject}
    if rule.against is None:
        return list(mine.values())
    return [
        value / other for number, value in sorted(mine.items()) if (other := found.get((rule.against, number), 0.0))
    ]


def judge(rule: Rule, values: Sequence[float]) -> Verdict:
    """Whether the median of ``values`` keeps the rule; of failures and memory the largest is judged."""
    value = spread(values)
    if value is None:
        return Verdict(rule, None, "not measured")
    told = value.high if rule.measure in ("failures", "pss_bytes") else value.median
    sign = 1.0 if rule.at_least else -1.0
    if sign * (told - rule.aim) >= 0:
        return Verdict(rule, value, "aim")
    if sign * (told - rule.floor) >= 0:
        return Verdict(rule, value, "floor")
    return Verdict(rule, value, "missed", abs(told - rule.floor))


def judge_all(rules: Iterable[Rule], samples: Sequence[Sample]) -> list[Verdict]:
    """The verdict on each rule."""
    return [judge(rule, ratios(samples, rule)) for rule in rules]


def missed(verdicts: Iterable[Verdict]) -> bool:
    """Whether any floor was missed."""
    return any(verdict.state == "missed" for verdict in verdicts)
