from __future__ import annotations

from lilliput.pool.breaker import FIRST_PAUSE_S, FREE_DEATHS, LONGEST_PAUSE_S, PROOF_S, Breaker


def die(breaker: Breaker, times: int, *, at_s: float = 0.0, lived_s: float = 1.0, answered: int = 0) -> None:
    for _ in range(times):
        breaker.note_death("m", at_s, lived_s=lived_s, answered=answered)


def test_a_few_deaths_cost_nothing_and_then_the_pauses_double() -> None:
    breaker = Breaker()
    assert breaker.wait_s("m", 0.0) == 0
    die(breaker, FREE_DEATHS)
    assert breaker.wait_s("m", 0.0) == 0
    pauses = []
    for _ in range(4):
        die(breaker, 1)
        pauses.append(breaker.wait_s("m", 0.0))
    assert pauses == [FIRST_PAUSE_S * factor for factor in (1, 2, 4, 8)]
    assert breaker.deaths("m") == FREE_DEATHS + 4
    assert breaker.wait_s("other", 0.0) == 0


def test_a_pause_passes_and_never_grows_beyond_all_bounds() -> None:
    breaker = Breaker()
    die(breaker, FREE_DEATHS + 1, at_s=10.0)
    assert breaker.wait_s("m", 10.0 + FIRST_PAUSE_S / 4) == FIRST_PAUSE_S * 3 / 4
    assert breaker.wait_s("m", 10.0 + FIRST_PAUSE_S) == 0
    die(breaker, 2000, at_s=10.0)
    assert breaker.wait_s("m", 10.0) == LONGEST_PAUSE_S


def test_an_engine_that_was_sound_begins_a_new_row() -> None:
    for sound in ({"lived_s": PROOF_S}, {"answered": 1}):
        breaker = Breaker()
        die(breaker, FREE_DEATHS + 3)
        die(breaker, 1, **sound)
        assert (breaker.deaths("m"), breaker.wait_s("m", 0.0)) == (1, 0)


def test_what_is_forgiven_may_be_started_at_once() -> None:
    breaker = Breaker()
    die(breaker, FREE_DEATHS + 3)
    breaker.forget("m")
    breaker.forget("unknown")
    assert (breaker.deaths("m"), breaker.wait_s("m", 0.0)) == (0, 0)
