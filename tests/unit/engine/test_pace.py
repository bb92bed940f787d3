from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lilliput.engine.pace import FIRST_CHUNK_TOKENS, LEAST_CHUNK_TOKENS, Pace


def test_alone_a_prompt_fills_the_batch() -> None:
    assert Pace(0.1, 512).chunk_tokens(0) == 512


def test_before_anything_was_measured_a_fixed_chunk_is_taken() -> None:
    assert Pace(0.1, 512).chunk_tokens(3) == FIRST_CHUNK_TOKENS
    assert Pace(0.1, 32).chunk_tokens(3) == 32


def test_beside_running_streams_a_pass_takes_no_longer_than_the_gap() -> None:
    pace = Pace(0.1, 512)
    pace.note(4, 0, 0.040)
    pace.note(0, 100, 0.200)
    assert pace.chunk_tokens(4) == 30


def test_where_single_steps_are_slow_a_pass_may_take_half_as_long_again() -> None:
    pace = Pace(0.1, 512)
    pace.note(4, 0, 0.400)
    pace.note(0, 100, 1.0)
    assert pace.chunk_tokens(4) == 20


def test_what_a_prompt_costs_is_told_from_mixed_passes_too() -> None:
    pace = Pace(0.1, 512)
    pace.note(2, 0, 0.020)
    pace.note(2, 40, 0.020 + 40 * 0.001)
    assert pace.prompt_token_s == pytest.approx(0.001)


def test_of_an_unknown_number_of_sequences_the_nearest_known_is_taken() -> None:
    pace = Pace(0.1, 512)
    pace.note(1, 0, 0.010)
    pace.note(8, 0, 0.050)
    assert (pace.decode_s(2), pace.decode_s(7), pace.decode_s(0)) == (0.010, 0.050, 0.0)


def test_one_odd_pass_counts_little() -> None:
    pace = Pace(0.1, 512)
    for _ in range(20):
        pace.note(1, 0, 0.010)
    pace.note(1, 0, 10.0)
    assert pace.decode_s(1) < 0.015


@given(st.lists(st.tuples(st.integers(0, 16), st.integers(0, 512), st.floats(1e-6, 100))), st.integers(1, 64))
def test_a_chunk_is_always_possible_and_never_beyond_the_batch(passes: list[tuple[int, int, float]], many: int) -> None:
    pace = Pace(0.1, 512)
    for one in passes:
        pace.note(*one)
    assert LEAST_CHUNK_TOKENS <= pace.chunk_tokens(many) <= 512


def test_the_first_chunk_beside_others_is_small_however_fast_a_whole_batch_went() -> None:
    pace = Pace(0.1, 512)
    pace.note(1, 0, 0.010)
    pace.note(0, 512, 0.051)
    assert pace.chunk_tokens(1) == FIRST_CHUNK_TOKENS
    pace.note(1, 60, 0.010 + 60 * 0.0005)
    assert pace.chunk_tokens(1) == 180
