"""What is chosen from what was measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lilliput.services.tuning_choice import LoadChoices, Trial, Tuning, decide, width_of

USUAL = Trial(
    True,
    8,
    8,
    512,
    tokens_per_s=((64, 100.0), (2048, 90.0)),
    prompt_tokens_per_s=400.0,
    wide_tokens_per_s=((1, 100.0), (4, 200.0), (8, 300.0), (16, 400.0)),
)


def trial(*rates: float | None, prompt: float | None = 400.0, wide: float | None = None, **changed: Any) -> Trial:
    """A trial that differs from the usual one in what is named."""
    known = tuple((depth, rate) for depth, rate in zip((64, 2048), rates, strict=False) if rate is not None)
    together = () if wide is None else tuple((count, rate * wide) for count, rate in USUAL.wide_tokens_per_s)
    return replace(USUAL, tokens_per_s=known, prompt_tokens_per_s=prompt, wide_tokens_per_s=together, **changed)


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ((), {}),
        ((trial(110, 95, flash_attention=False),), {"flash_attention": False}),
        ((trial(101, 91, flash_attention=False),), {}),
        ((trial(120, 60, flash_attention=False),), {}),
        ((trial(110, flash_attention=False),), {"flash_attention": False}),
        ((trial(120, 99, wide=0.8, flash_attention=False),), {}),
        ((trial(120, 99, wide=0.99, flash_attention=False),), {"flash_attention": False}),
        ((trial(110, 180, wide=0.9, flash_attention=False),), {"flash_attention": False}),
        ((trial(110, 99, threads=4), trial(120, 110, threads=6)), {"threads": 6}),
        ((trial(108, 98, threads=4),), {}),
        ((trial(130, 95, threads=4),), {}),
        ((trial(prompt=500, batch_threads=16),), {"batch_threads": 16}),
        ((trial(prompt=440, batch_threads=16),), {}),
        ((trial(prompt=460, wide=1.1, batch_threads=16),), {"batch_threads": 16}),
        ((trial(prompt=440, wide=0.7, batch_threads=16),), {}),
        ((trial(150, 150, prompt=400, batch_threads=16),), {}),
        ((trial(100, 90, prompt=440, ubatch_tokens=128),), {"ubatch_tokens": 128}),
        ((trial(150, 150, prompt=400, ubatch_tokens=128),), {}),
        ((trial(110, prompt=440, repack=False),), {"repack": False}),
        ((trial(104, prompt=410, repack=False),), {}),
        ((trial(150, prompt=200, repack=False),), {}),
        ((trial(110, prompt=420, memory_map=False),), {"memory_map": False}),
        ((trial(95, prompt=600, memory_map=False),), {}),
        ((trial(prompt=None, threads=4), trial(prompt=None, ubatch_tokens=128)), {}),
    ],
)
def test_only_what_is_clearly_faster_is_changed(others: tuple[Trial, ...], expected: dict[str, Any]) -> None:
    assert decide((USUAL, *others)) == LoadChoices(**expected)


def test_nothing_measured_changes_nothing() -> None:
    assert decide(()) == LoadChoices()


def test_the_width_is_that_of_the_attention_that_is_chosen() -> None:
    usual = replace(USUAL, wide_tokens_per_s=((1, 50.0), (4, 100.0), (8, 101.0), (16, 90.0)))
    plain = replace(usual, flash_attention=False, tokens_per_s=((64, 120.0),))
    faster = replace(plain, wide_tokens_per_s=((1, 60.0), (4, 100.0), (8, 140.0), (16, 120.0)))
    assert decide((usual,)).width == 4
    assert decide((usual, faster)).width == 8


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ((), None),
        (((1, 80.0), (2, 110.0), (4, 136.0), (8, 149.0), (16, 173.0)), None),
        (((1, 80.0), (2, 110.0), (4, 136.0), (8, 149.0), (16, 149.5)), 8),
        (((1, 80.0), (2, 110.0), (4, 146.0), (8, 149.0), (16, 120.0)), 4),
        (((1, 80.0), (2, 110.0), (4, 140.0), (8, 149.0), (16, 152.0)), 8),
        (((1, 105.0), (2, 108.0), (4, 100.0), (8, 90.0), (16, 80.0)), 4),
        (((1, 100.0), (2, 120.0), (4, 100.0), (8, 90.0), (16, 80.0)), 2),
        (((1, 119.0), (2, 120.0), (4, 100.0), (8, 90.0), (16, 80.0)), 1),
        (((1, 80.0), (2, 110.0)), None),
        (((1, 80.0), (2, 80.0)), None),
        (((4, 100.0),), None),
    ],
)
def test_the_width_is_the_smallest_that_loses_nothing(
    rates: tuple[tuple[int, float], ...], expected: int | None
) -> None:
    assert width_of(rates) == expected


def test_what_is_chosen_goes_before_what_was_measured() -> None:
    measured = LoadChoices(flash_attention=False, threads=4, width=8)
    tuning = Tuning(measured, LoadChoices(flash_attention=True, repack=False))
    assert tuning.settings == LoadChoices(flash_attention=True, threads=4, width=8, repack=False)
    assert tuning.to_json()["settings"]["flash_attention"] is True
