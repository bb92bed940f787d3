"""How plans are drawn: in narrow windows, without colours, and the bars' signs."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from tests.unit.client.documents import GIB, GPU_PLAN, PLAN, Q4

from lilliput_client import Need, Plan, Speed
from lilliput_client.cli import formats
from lilliput_client.cli.memory_bars import Scale, bar, scales
from lilliput_client.cli.plan_view import print_plan

LONG = {**Q4, "name": "UD-Q4_K_XL", "setting": {**Q4["setting"], "context_tokens": 131072, "kv_type": "q8_0"}}


def plan_of(document: dict[str, Any]) -> Plan:
    return msgspec.convert(document, Plan)


def drawn(document: dict[str, Any], width: int, **options: Any) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, markup=False, highlight=False, emoji=False, **options)
    print_plan(plan_of(document), console, next_step="lilliput pull m")
    return [line.rstrip() for line in out.getvalue().splitlines()]


def long_plan() -> dict[str, Any]:
    variants = [{**one, "reason": "too large " * 12} for one in (*GPU_PLAN["variants"], LONG)]
    return {**GPU_PLAN, "variants": variants}


@pytest.mark.parametrize("document", [PLAN, GPU_PLAN, long_plan()])
def test_eighty_columns_are_enough_and_nothing_is_cut(document: dict[str, Any]) -> None:
    lines = drawn(document, 80)
    assert max(map(len, lines)) <= 80
    header = next(line for line in lines if "TOKENS/S" in line).split()
    assert header[-1] == "FITS"
    for variant in document["variants"]:
        numbers = next(line for line in lines if variant["name"] in line).split()
        assert numbers[-1] in ("yes", "no")
        assert str(variant["setting"]["context_tokens"]) in numbers
    assert sum("%" in line and "│" in line for line in lines) >= len(document["variants"])


def test_reasons_wrap_below_in_a_narrow_window() -> None:
    lines = drawn(long_plan(), 80)
    first = next(index for index, line in enumerate(lines) if line.startswith("UD-Q4_K_XL "))
    assert lines[first + 1].startswith("             large too large")


def test_bars_are_in_the_rows_of_a_wide_window() -> None:
    lines = drawn(PLAN, 150)
    assert sum("Q4_K_M" in line and "75%" in line for line in lines) == 1


def test_a_bar_of_plain_signs_tells_the_parts_apart_too() -> None:
    need = Need(weights=4 * GIB, kv=2 * GIB, compute=GIB, overhead=GIB)
    assert bar(need, Scale(8 * GIB, 8 * GIB), fancy=False).plain == "############======+++ooo|  100%"
    assert bar(need, Scale(12 * GIB, 12 * GIB), fancy=True).plain == "████████▓▓▓▓▒▒░░········│   67%"


def test_a_need_beyond_the_budget_passes_its_end_and_one_far_beyond_is_cut() -> None:
    far = bar(Need(weights=40 * GIB), Scale(12 * GIB, 8 * GIB), fancy=False).plain
    assert far == "################|########> 500%"
    near = bar(Need(weights=10 * GIB), Scale(12 * GIB, 8 * GIB), fancy=False).plain
    assert near == "################|####      125%"


def test_all_variants_share_one_scale_on_each_memory() -> None:
    assert scales(plan_of(PLAN))["ram"] == Scale(10 * GIB, 8 * GIB)
    assert scales(plan_of(GPU_PLAN))["CUDA0"] == Scale(GIB, GIB)
    huge = {**PLAN, "variants": [{**Q4, "need": {"ram": {"weights": 99 * GIB}}}]}
    assert scales(plan_of(huge))["ram"] == Scale(12 * GIB, 8 * GIB)


sizes = st.integers(0, 2**45)


@given(sizes, sizes, sizes, sizes, st.integers(1, 2**45), st.integers(1, 2**46))
def test_every_bar_is_equally_long(weights: int, kv: int, compute: int, overhead: int, budget: int, most: int) -> None:
    scale = Scale(max(budget, min(most, budget * 1.5)), budget)
    text = bar(Need(weights, kv, compute, overhead), scale, fancy=False).plain
    assert text.index("%") >= 29
    assert len(text[:26].replace("|", "")) == 25


def test_what_an_older_daemon_does_not_tell_is_a_dash() -> None:
    lines = drawn({"model": "m", "variants": [{"name": "Q2_K", "fits": False, "total_bytes": 5}]}, 150)
    told = next(line for line in lines if "Q2_K" in line).split()
    assert told == ["Q2_K", "-", "5", "B", "-", "-", "-", "-", "-", "no", "-"]


@pytest.mark.parametrize("color", [None, "truecolor"])
def test_no_colour_means_no_colour(monkeypatch: pytest.MonkeyPatch, color: Any) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    text = "\n".join(drawn(PLAN, 100, force_terminal=True, color_system=color))
    assert "\x1b[3" not in text
    assert ";3" not in text


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (formats.speed(Speed(0.91, 1, 1.36)), "0.9-1.4"),
        (formats.speed(Speed(12.2, 13, 15.4)), "12-15"),
        (formats.speed(Speed(12.2, 12.2, 12.2)), "12"),
        (formats.speed(None), "-"),
        (formats.divergence(0.0), "0.000"),
        (formats.divergence(0.00136), "0.0014"),
        (formats.divergence(2.2545), "2.25"),
        (formats.rise(0.04), "+0.04%"),
        (formats.rise(-2.4), "-2.4%"),
        (formats.rise(873.98), "+874%"),
        (formats.bandwidth(51.2e9), "51.2 GB/s"),
        (formats.bandwidth(3.35e12), "3.35 TB/s"),
        (formats.bandwidth(None), "-"),
    ],
)
def test_numbers_are_as_long_as_they_are_sure(told: str, expected: str) -> None:
    assert told == expected
