from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lilliput.engine.text import TextAssembler


def test_a_character_cut_between_tokens_is_held_back_until_whole() -> None:
    text = TextAssembler([])
    assert [text.feed(b"a\xf0\x9f"), text.feed(b"\x98"), text.feed(b"\x80b")] == ["a", "", "😀b"]


def test_a_character_that_never_completes_becomes_a_replacement_mark_at_the_end() -> None:
    text = TextAssembler([])
    assert text.feed(b"ok\xe2\x82") == "ok"
    assert text.finish() == "\ufffd"


def test_a_stop_string_across_tokens_is_never_shown() -> None:
    text = TextAssembler(["\nUser:"])
    shown = [text.feed(piece) for piece in (b"Hello", b"\nUs", b"er", b": hi")]
    assert shown == ["Hello", "", "", ""]
    assert text.stopped


def test_text_that_only_looked_like_a_stop_string_is_shown_when_it_turns_out_otherwise() -> None:
    text = TextAssembler(["END"])
    assert [text.feed(b"the E"), text.feed(b"N"), text.feed(b"T")] == ["the ", "", "ENT"]
    assert not text.stopped


def test_held_back_text_is_shown_when_the_answer_ends() -> None:
    text = TextAssembler(["END"])
    assert text.feed(b"EN") == ""
    assert text.holds_back
    assert text.finish() == "EN"


def test_the_earliest_of_several_stop_strings_cuts() -> None:
    text = TextAssembler(["ccc", "b"])
    assert text.feed(b"aabccc") == "aa"
    assert text.stopped


@pytest.mark.parametrize("stops", [["ab"], ["aab", "b"], [""], []])
@given(pieces=st.lists(st.text(alphabet="abc", max_size=4), max_size=12))
def test_what_is_shown_is_the_text_up_to_the_first_stop_string(stops: list[str], pieces: list[str]) -> None:
    text = TextAssembler(stops)
    shown = ""
    whole = ""
    for piece in pieces:
        whole += piece
        shown += text.feed(piece.encode())
        if text.stopped:
            break
    if not text.stopped:
        shown += text.finish()
    cuts = [at for at in (whole.find(stop) for stop in stops if stop) if at >= 0]
    assert shown == whole[: min(cuts)] if cuts else shown == whole
    assert text.stopped == bool(cuts)


def test_no_stop_string_is_looked_for_in_the_first_pieces() -> None:
    text = TextAssembler(["END"], unexamined=2)
    assert [text.feed(piece) for piece in (b"END", b" E", b"ND x", b" END")] == ["END", " E", "ND x", " "]
    assert text.stopped
