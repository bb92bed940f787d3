from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from lilliput.fit import Budget, make_budget
from lilliput.hardware import Memory
from lilliput.units import GIB, MIB

MACHINE = Budget(total_bytes=32 * GIB, available_bytes=24 * GIB, reserve_bytes=GIB, use_fraction=0.8)


def test_what_is_available_less_the_reserve_bounds_it() -> None:
    assert (MACHINE.budget_bytes, MACHINE.because) == (23 * GIB, "24.0 GiB available less 1.0 GiB in reserve")


def test_a_share_of_the_whole_bounds_it() -> None:
    roomy = replace(MACHINE, available_bytes=31 * GIB)
    assert (roomy.budget_bytes, roomy.because) == (int(25.6 * GIB), "80% of 32.0 GiB")


def test_a_limit_bounds_it() -> None:
    capped = replace(MACHINE, limit_bytes=600 * MIB)
    assert (capped.budget_bytes, capped.because) == (600 * MIB, "the limit set is 600.0 MiB")


def test_what_engines_have_reserved_but_not_touched_is_not_available() -> None:
    promised = replace(MACHINE, promised_bytes=3 * GIB)
    assert promised.budget_bytes == 20 * GIB
    assert promised.because == "24.0 GiB available less 1.0 GiB in reserve and 3.0 GiB promised to engines"
    assert replace(promised, limit_bytes=GIB).budget_bytes == GIB


def test_a_budget_is_made_of_a_machines_memory() -> None:
    memory = Memory(total_bytes=16 * GIB, available_bytes=10 * GIB, host_total_bytes=64 * GIB)
    made = make_budget(memory, reserve_bytes=GIB, use_fraction=0.5, limit_bytes=9 * GIB, promised_bytes=2 * GIB)
    assert made == Budget(16 * GIB, 10 * GIB, GIB, 0.5, 9 * GIB, 2 * GIB)
    assert made.budget_bytes == 7 * GIB


SIZES = st.integers(0, 1 << 45)


@given(SIZES, SIZES, SIZES, SIZES, st.none() | SIZES, st.floats(0, 1))
def test_it_is_never_negative_nor_above_any_part(
    total: int, available: int, reserve: int, promised: int, limit: int | None, fraction: float
) -> None:
    made = Budget(total, available, reserve, fraction, limit, promised)
    assert 0 <= made.budget_bytes <= max(0, available - reserve - promised)
    assert made.budget_bytes <= total * fraction + 1
    assert limit is None or made.budget_bytes <= limit
    assert made.because


def test_what_engines_hold_counts_against_share_and_limit() -> None:
    budget = Budget(1000, 900, 0, 0.5, held_bytes=200)
    assert budget.budget_bytes == 300
    assert budget.because == "50% of 1000 B less 200 B of loaded engines"
    limited = Budget(1000, 900, 0, 1.0, limit_bytes=400, held_bytes=300)
    assert limited.budget_bytes == 100
    assert limited.because == "the limit set is 400 B less 300 B of loaded engines"
