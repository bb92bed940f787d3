"""Server-sent events, cut anywhere."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lilliput_client.sse import SseDecoder

TEXT = (
    b"\xef\xbb\xbf: hello\n\n"
    b'data: {"a": 1}\r\n\r\n'
    b"event: more\rid: 7\rdata: two\rdata:lines\r\r"
    b":\n"
    b"data: \xe2\x80\xa8 \xc2\x85 inside\n\n"
    b"retry: 5\n\n"
    b"data\n\n"
)
EVENTS = ['{"a": 1}', "two\nlines", "\u2028 \x85 inside", ""]


def decode(chunks: list[bytes]) -> list[str]:
    decoder = SseDecoder()
    return [data for chunk in chunks for data in decoder.feed(chunk)]


def test_events_are_read_from_one_chunk() -> None:
    assert decode([TEXT]) == EVENTS


def test_events_are_read_byte_by_byte() -> None:
    assert decode([TEXT[i : i + 1] for i in range(len(TEXT))]) == EVENTS


@given(st.lists(st.integers(0, len(TEXT)), max_size=6))
def test_events_do_not_depend_on_how_the_text_is_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(TEXT)]
    assert decode([TEXT[start:end] for start, end in pairwise(edges)]) == EVENTS


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_only_the_three_line_ends_of_the_standard_end_a_line(separator: str) -> None:
    assert decode([f"data: a{separator}b\n\n".encode()]) == [f"a{separator}b"]


def test_an_event_without_its_blank_line_is_not_delivered() -> None:
    assert decode([b"data: half\n"]) == []


def test_heartbeat_comments_yield_nothing() -> None:
    assert decode([b":\n\n", b": ping\n\n" * 3]) == []


def test_bytes_that_are_no_utf8_do_not_stop_the_stream() -> None:
    assert decode([b"data: \xff\n\ndata: ok\n\n"]) == ["\ufffd", "ok"]
