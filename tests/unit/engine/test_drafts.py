from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lilliput.engine.drafts import GRAM_TOKENS, INDEXED_AT_ONCE, PRIOR_CHANCES, Chances, Drafts, GramIndex

TEXT = [10, 11, 12, 13, 14, 15, 16, 17, 18, 19]


def followed(prompt: list[int], answer: list[int]) -> Drafts:
    tokens = list(prompt)
    drafts = Drafts(tokens, Chances())
    for token in answer:
        tokens.append(token)
        drafts.follow()
    return drafts


def test_what_followed_the_same_three_tokens_before_is_proposed() -> None:
    drafts = followed([*TEXT, 1, 2], [12, 13, 14])
    assert drafts.propose(4) == (15, 16, 17, 18)


def test_nothing_is_proposed_without_a_match() -> None:
    drafts = followed(TEXT, [1, 2, 3, 12, 13])
    assert drafts.propose(4) == ()
    assert list(drafts.chances(4)) == []


def test_nothing_is_proposed_before_a_token_was_drawn() -> None:
    assert Drafts([*TEXT, *TEXT], Chances()).propose(4) == ()


def test_the_longest_match_goes_before_the_latest() -> None:
    drafts = followed([1, 2, 3, 4, 5, 50, 9, 9, 3, 4, 5, 60, 8, 8], [2, 3, 4, 5])
    assert drafts.propose(1) == (50,)


def test_of_equally_long_matches_the_latest_counts() -> None:
    drafts = followed([7, 3, 4, 5, 50, 6, 3, 4, 5, 60, 8], [3, 4, 5])
    assert drafts.propose(1) == (60,)


def test_a_match_with_its_own_end_repeats_itself() -> None:
    drafts = followed([1], [5, 6, 5, 6, 5, 6])
    assert drafts.propose(5) == (5, 6, 5, 6, 5)


def test_after_a_replaced_token_the_copy_goes_on_behind_it() -> None:
    drafts = followed([*TEXT, 1], [10, 11, 12, 99])
    assert drafts.propose(2) == (14, 15)


def test_a_copy_that_fails_again_and_again_is_given_up() -> None:
    drafts = followed([*TEXT, *range(100, 120), 1], [10, 11, 12, *range(200, 206)])
    assert drafts.propose(2) == ()


def test_chances_rise_with_the_length_of_the_match_and_fall_along_a_draft() -> None:
    short = list(followed([*TEXT, 1], TEXT[:3]).chances(3))
    long = list(followed([*TEXT, 1], TEXT[:7]).chances(3))
    assert long[0] > short[0]
    assert short == sorted(short, reverse=True)
    assert list(followed([*TEXT, 1], TEXT[:7]).chances(1)) == long[:1]


def test_matches_that_mislead_lower_the_chances_of_their_length_in_this_sequence_most() -> None:
    shared = Chances()
    prompt = [token for number in range(40) for token in (1, 2, 3, 100 + number)]
    tokens = list(prompt)
    drafts = Drafts(tokens, shared)
    for number in range(30):
        for token in (1, 2, 3, 200 + number):
            tokens.append(token)
            drafts.follow()
    tokens += [1]
    drafts.follow()
    tokens += [2]
    drafts.follow()
    tokens += [3]
    drafts.follow()
    own = next(drafts.chances(1), 0.0)
    assert own < 0.1
    assert own < shared.values[1] < PRIOR_CHANCES[1]


def test_a_long_prompt_is_indexed_in_pieces_and_found_all_the_same() -> None:
    prompt = [*TEXT, *range(1000, 1000 + 2 * INDEXED_AT_ONCE), 1]
    assert followed(prompt, TEXT[:3]).propose(2) == (13, 14)
    assert followed(prompt, TEXT[:2]).propose(2) == ()


@given(st.lists(st.integers(0, 3), max_size=60))
def test_an_earlier_place_is_found_exactly_when_there_is_one(tokens: list[int]) -> None:
    index = GramIndex(tokens)
    for count in range(1, len(tokens) + 1):
        index.extend(count)
        assert index.count == count
        tail = tokens[max(0, count - GRAM_TOKENS) : count]
        places = [
            place
            for place in range(GRAM_TOKENS, count)
            if tokens[place - GRAM_TOKENS : place] == tail and len(tail) == 3
        ]
        place, length = index.find()
        assert bool(place) == bool(places)
        if place:
            assert place in places
            assert tokens[place - length : place] == tokens[count - length : count]


@given(st.lists(st.integers(0, 2), min_size=1, max_size=20), st.lists(st.integers(0, 2), max_size=60))
def test_proposals_are_always_as_long_as_asked_for(prompt: list[int], answer: list[int]) -> None:
    tokens = list(prompt)
    drafts = Drafts(tokens, Chances())
    for token in answer:
        tokens.append(token)
        drafts.follow()
        offered = len(list(drafts.chances(5)))
        assert offered == 0 or len(drafts.propose(offered)) == offered
