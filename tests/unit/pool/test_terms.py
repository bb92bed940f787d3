"""Terms replace those of before where they bind, and force alone is added."""

from __future__ import annotations

import pytest

from lilliput.pool import OPEN_TERMS, Terms

PULLED = Terms(context_tokens=4096, use_case="coding", named=True)


@pytest.mark.parametrize(
    ("asked", "then"),
    [
        (OPEN_TERMS, PULLED),
        (Terms(forced=True), Terms(context_tokens=4096, use_case="coding", named=True, forced=True)),
        (Terms(slots=1), Terms(slots=1)),
        (Terms(gpu_layers=0, forced=True), Terms(gpu_layers=0, forced=True)),
    ],
)
def test_what_binds_takes_the_place_of_what_was_agreed(asked: Terms, then: Terms) -> None:
    assert PULLED.after(asked) == then


def test_force_stays_until_something_else_binds() -> None:
    forced = Terms(forced=True)
    assert forced.after(OPEN_TERMS) == forced
    assert forced.after(Terms(kv_type="f16")) == Terms(kv_type="f16")


def test_a_loaded_engine_will_do_for_the_same_terms_and_for_those_that_bind_nothing() -> None:
    assert Terms(forced=True).satisfied_by(PULLED)
    assert Terms(slots=2, forced=True).satisfied_by(Terms(slots=2))
    assert not Terms(slots=2).satisfied_by(OPEN_TERMS)
    assert not Terms(slots=2).satisfied_by(Terms(slots=2, kv_type="q8_0"))
