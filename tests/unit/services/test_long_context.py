"""Contexts beyond what a model was trained for: refused by name, or stretched as far as they go."""

from __future__ import annotations

from typing import cast

import pytest

from lilliput.errors import InvalidRequest
from lilliput.gguf import Header
from lilliput.llama import Rope, RopeScaling
from lilliput.services.long_context import check_length, check_rope, long_context_notes, resolved

YARN = Rope("yarn")


def header(trained: int | None = 8192, original: int | None = None) -> Header:
    given = {"m.context_length": trained, "m.rope.scaling.original_context_length": original}
    known = {key: value for key, value in given.items() if value is not None}
    return Header(3, {"general.architecture": "m", **known}, (), 32, 0)


@pytest.mark.parametrize(
    ("rope", "param"),
    [
        (Rope(cast("RopeScaling", "ntk")), "rope_scaling"),
        (Rope(freq_base=0.0), "rope_freq_base"),
        (Rope("linear", freq_scale=0.0), "rope_freq_scale"),
        (Rope("linear", freq_scale=1.5), "rope_freq_scale"),
        (Rope("none", freq_scale=0.5), "rope_freq_scale"),
        (Rope(freq_scale=0.5), "rope_freq_scale"),
        (Rope("yarn", original_tokens=0), "yarn_orig_ctx"),
        (Rope("linear", original_tokens=4096), "yarn_orig_ctx"),
    ],
)
def test_impossible_settings_are_refused_by_name(rope: Rope, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_rope(rope)
    assert refused.value.param == param


@pytest.mark.parametrize(
    "rope", [YARN, Rope("none"), Rope(freq_base=1e6), Rope("linear", None, 0.25), Rope("yarn", 5e5, 0.5, 4096)]
)
def test_possible_settings_are_not(rope: Rope) -> None:
    check_rope(rope)
    check_length(rope, 100_000, 8192)


def test_a_longer_context_is_refused_with_the_name_of_what_allows_it() -> None:
    with pytest.raises(InvalidRequest, match="context is 8193, but the model was trained with 8192 tokens") as refused:
        check_length(None, 8193, 8192)
    assert refused.value.param == "context"
    assert "--rope-scaling yarn" in (refused.value.hint or "")
    check_length(None, 8192, 8192)
    check_length(None, 8193, None)


@pytest.mark.parametrize(
    ("asked", "of", "scale"),
    [
        (YARN, header(), 0.5),
        (Rope("linear"), header(), 0.5),
        (YARN, header(original=2048), 0.125),
        (Rope("yarn", original_tokens=4096), header(original=2048), 0.25),
        (Rope("yarn", freq_scale=0.1), header(), 0.1),
        (YARN, header(trained=32768), 1.0),
        (Rope("none"), header(), None),
        (Rope(freq_base=1e6), header(), None),
    ],
)
def test_how_far_it_is_stretched_follows_from_the_context(asked: Rope, of: Header, scale: float | None) -> None:
    found = resolved(asked, 16384, of)
    assert found is not None
    assert found.freq_scale == scale
    assert (found.scaling, found.original_tokens) == (asked.scaling, asked.original_tokens)


def test_without_a_wish_the_file_decides() -> None:
    assert resolved(None, 16384, header()) is None


def test_a_file_that_does_not_say_its_context_needs_a_scale() -> None:
    with pytest.raises(InvalidRequest, match="does not say how many tokens"):
        resolved(YARN, 16384, header(trained=None))
    assert resolved(Rope("yarn", freq_scale=0.5), 16384, header(trained=None)) is not None


def test_notes_tell_what_becomes_of_a_longer_context() -> None:
    assert long_context_notes(Rope("yarn", freq_scale=0.5), 8192, 8192) == []
    (note,) = long_context_notes(Rope("yarn", freq_scale=0.5), 16384, 8192)
    assert note.endswith("yarn stretches what it was trained with 2 times")
    (note,) = long_context_notes(Rope("none"), 16384, 8192)
    assert "its answers get worse" in note
