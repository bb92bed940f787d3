from __future__ import annotations

import pytest

from lilliput.engine.draft_choice import (
    DEEPEST_DRAFT,
    FIRST_CHUNK_TOKENS,
    HORIZON_TOKENS,
    LEAST_CHUNK_TOKENS,
    TRIAL_SHARE,
    DraftChoice,
)
from lilliput.engine.speculation import WIDEST_STEP, StepCosts

FLAT = dict.fromkeys(range(1, WIDEST_STEP + 1), 0.1)
"""As on an accelerator: how many tokens a pass has makes no difference."""

STEEP = {width: 0.1 * width for width in FLAT}


def choice(target: dict[int, float], draft_s: float | None = None, gap_s: float = 0.1) -> DraftChoice:
    costs = StepCosts()
    for width, seconds in target.items():
        costs.note(width, seconds)
    made = DraftChoice(costs, gap_s)
    if draft_s is not None:
        for width in range(1, 17):
            made.note_draft(width, draft_s)
    return made


def test_a_cheap_and_faithful_model_drafts_far_and_a_dear_or_faithless_one_not_at_all() -> None:
    best = choice(FLAT, 0.001).best([0.95], 1, 40)
    assert best is not None
    assert (best.sequences, best.tokens) == (1, DEEPEST_DRAFT)
    assert 0.07 < best.saved_s < 0.1
    assert choice(FLAT, 0.09).best([0.8], 1, 40) is None
    assert choice(FLAT, 0.01).best([0.05], 1, 40) is None
    assert choice(STEEP, 0.001).best([0.9], 1, 40) is None


def test_the_dearer_its_passes_the_fewer_tokens_it_says() -> None:
    depths = [choice(FLAT, draft_s).best([0.8], 1, 40) for draft_s in (0.001, 0.01, 0.03)]
    tokens = [one.tokens for one in depths if one is not None]
    assert len(tokens) == 3
    assert tokens == sorted(tokens, reverse=True)
    assert tokens[0] > tokens[-1]


def test_sequences_that_seldom_take_its_drafts_are_left_out_where_tokens_cost() -> None:
    costs = {width: 0.1 + 0.02 * (width - 1) for width in FLAT}
    best = choice(costs, 0.005).best([0.9, 0.9, 0.05], 3, 40)
    assert best is not None
    assert best.sequences == 2
    free = choice(FLAT, 0.005).best([0.9, 0.9, 0.5], 3, 40)
    assert free is not None
    assert free.sequences == 3


def test_drafts_keep_within_the_tokens_of_a_pass() -> None:
    best = choice(FLAT, 0.001).best([0.95, 0.95], 2, 5)
    assert best is not None
    assert best.sequences * best.tokens <= 5
    assert choice(FLAT, 0.001).best([0.95], 1, 0) is None


def test_before_it_was_measured_it_is_given_a_chance() -> None:
    assert choice(FLAT).best([0.7], 1, 40) is not None


def test_catching_up_with_a_long_prompt_pays_once_the_answer_is_long_too() -> None:
    made = choice(FLAT, 0.01)
    made.note_chunk(100, 1.0)
    assert made.pays(HORIZON_TOKENS, 0, 1000, 0.02)
    assert not made.pays(1000, HORIZON_TOKENS, 1000, 0.02)
    assert made.pays(1000, 600, 1000, 0.02)
    assert not made.pays(1000, 600, 10, 0.02), "little is left of the answer"


def test_a_chunk_is_as_large_as_the_gap_of_running_streams_allows() -> None:
    made = choice({1: 0.04}, 0.01, gap_s=0.1)
    assert made.spare_s(1) == pytest.approx(0.06)
    assert made.chunk_tokens(0.06) == FIRST_CHUNK_TOKENS
    for _ in range(50):
        made.note_chunk(100, 0.1)
    assert made.chunk_tokens(0.06) == 60
    assert made.chunk_tokens(0.0) == LEAST_CHUNK_TOKENS
    assert choice({1: 1.0}, gap_s=0.1).spare_s(1) == pytest.approx(0.5)


def test_trials_of_a_model_that_does_not_pay_take_a_small_share_of_all_time() -> None:
    made = choice(FLAT, 0.09)
    spent = now_s = 0.0
    made.earn(0.0)
    assert not made.affords(1)
    for _ in range(10_000):
        now_s += 0.1
        made.earn(now_s)
        if made.affords(1):
            made.spend(0.27)
            spent += 0.27
            now_s += 0.27
    assert 0 < spent <= 1.01 * TRIAL_SHARE * now_s
