from __future__ import annotations

import pytest

from lilliput.engine.drafts import Chances, Drafts
from lilliput.engine.speculation import LONGEST_DRAFT, RETRY_STEPS, WIDEST_STEP, Candidate, Speculator, StepCosts

LINEAR_S = {width: 0.010 * (1 + 0.47 * (width - 1)) for width in range(1, WIDEST_STEP + 1)}
"""As on two cores: four tokens cost 2.4 times one, eight 4.3 times."""


def copying(length: int = 40) -> Drafts:
    """A sequence that has copied so many tokens of its prompt and may go on."""
    tokens = [*range(1000), 5000]
    drafts = Drafts(tokens, Chances())
    for token in range(length):
        tokens.append(token)
        drafts.follow()
    return drafts


def straying() -> Drafts:
    """A sequence whose matches have always misled."""
    tokens = [token for number in range(50) for token in (1, 2, 3, 100 + number)]
    drafts = Drafts(tokens, Chances())
    for number in range(40):
        for token in (1, 2, 3, 1000 + number):
            tokens.append(token)
            drafts.follow()
    for token in (1, 2, 3):
        tokens.append(token)
        drafts.follow()
    assert drafts.propose(1)
    return drafts


def speculator(costs: dict[int, float] | None = None, rows: int = 32) -> Speculator:
    made = Speculator(rows)
    for width, seconds in (costs or {}).items():
        made.note(width, seconds)
    return made


def drafted(plan: dict[int, tuple[int, ...]]) -> int:
    return sum(len(one) for one in plan.values())


def test_nothing_is_drafted_before_a_pass_without_drafts_was_timed() -> None:
    one = Candidate(1, copying(), 100)
    assert speculator().plan([one], 1) == {}
    assert drafted(speculator({1: 0.01}).plan([one], 1)) > 0


def test_a_faithful_copy_gets_several_drafts_where_they_cost_half_a_token() -> None:
    plan = speculator(LINEAR_S).plan([Candidate(1, copying(), 100)], 1)
    assert 2 <= drafted(plan) <= LONGEST_DRAFT
    assert plan[1] == tuple(range(40, 40 + len(plan[1])))


def test_nothing_is_drafted_where_a_token_more_costs_as_much_as_a_pass() -> None:
    costs = {width: 0.01 * width for width in range(1, WIDEST_STEP + 1)}
    assert speculator(costs).plan([Candidate(1, copying(), 100)], 1) == {}


def test_drafts_are_as_long_as_can_be_where_they_cost_nothing() -> None:
    costs = dict.fromkeys(range(1, WIDEST_STEP + 1), 0.01)
    assert drafted(speculator(costs).plan([Candidate(1, copying(), 100)], 1)) == LONGEST_DRAFT


def test_a_sequence_that_copies_nothing_gets_no_drafts_while_another_does() -> None:
    plan = speculator(LINEAR_S).plan([Candidate(1, straying(), 100), Candidate(2, copying(), 100)], 2)
    assert set(plan) == {2}


def test_what_counts_is_the_marginal_cost_of_a_batch_that_is_wide_already() -> None:
    steep = {width: 0.01 * width for width in range(1, 8)} | dict.fromkeys(range(8, WIDEST_STEP + 1), 0.08)
    assert speculator(steep).plan([Candidate(1, copying(), 6)], 1) == {}
    assert drafted(speculator(steep).plan([Candidate(1, copying(), 6)], 8)) == 6


def test_drafts_keep_within_the_rows_of_logits_and_the_limit_of_the_request() -> None:
    free = dict.fromkeys(range(1, WIDEST_STEP + 1), 0.01)
    candidates = [Candidate(number, copying(), 100) for number in range(3)]
    assert drafted(speculator(free, rows=10).plan(candidates, 3)) == 7
    assert speculator(free, rows=3).plan(candidates, 3) == {}
    assert drafted(speculator(free).plan([Candidate(1, copying(), 2)], 1)) == 2
    assert speculator(free).plan([Candidate(1, copying(), 0)], 1) == {}


def test_now_and_then_what_is_believed_about_costs_is_put_to_the_test() -> None:
    costly = {width: 0.01 * width for width in range(1, WIDEST_STEP + 1)}
    one = [Candidate(1, copying(), 100)]
    refusing, willing = speculator(costly), speculator(LINEAR_S)
    refused = [drafted(refusing.plan(one, 1)) for _ in range(2 * RETRY_STEPS)]
    taken = [drafted(willing.plan(one, 1)) for _ in range(2 * RETRY_STEPS)]
    assert sum(count > 0 for count in refused) == 2
    assert sum(count == 0 for count in taken) == 2


def test_costs_between_measured_widths_are_interpolated_and_beyond_them_supposed() -> None:
    costs = StepCosts()
    costs.note(1, 0.010)
    assert costs.seconds(2) == pytest.approx(0.014)
    costs.note(5, 0.030)
    assert costs.seconds(3) == pytest.approx(0.020)
    assert costs.seconds(10) > 0.030
    assert not costs.knows(3)


def test_one_slow_pass_hardly_changes_what_a_width_costs_but_a_slower_machine_does() -> None:
    costs = StepCosts()
    for _ in range(20):
        costs.note(1, 0.010)
    costs.note(1, 5.0)
    assert costs.seconds(1) < 0.012
    for _ in range(40):
        costs.note(1, 0.030)
    assert costs.seconds(1) == pytest.approx(0.030, rel=0.05)


def test_a_width_not_seen_for_long_learns_faster() -> None:
    often, seldom = StepCosts(), StepCosts()
    for costs in (often, seldom):
        costs.note(4, 0.040)
    for _ in range(100):
        seldom.note(1, 0.010)
    often.note(4, 0.020)
    seldom.note(4, 0.020)
    assert seldom.seconds(4) < often.seconds(4)
