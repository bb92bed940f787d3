from __future__ import annotations

import pytest
from bench.sse import BadStream, Dechunker, EventReader, read_chunk
from hypothesis import given
from hypothesis import strategies as st

EVENTS = (b'{"choices":[{"delta":{"content":"a"}}]}', b'{"choices":[]}', b"[DONE]")


def _chunked(content: bytes, size: int) -> bytes:
    parts = [content[at : at + size] for at in range(0, len(content), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@given(size=st.integers(1, 60), cut=st.integers(1, 30))
def test_events_are_found_however_chunks_and_reads_cut_them(size: int, cut: int) -> None:
    stream = b": a comment\n\n" + b"".join(b"data: %b\r\n\r\n" % event for event in EVENTS)
    coded = _chunked(stream, size)
    dechunker, reader = Dechunker(), EventReader()
    found = [event for at in range(0, len(coded), cut) for event in reader.feed(dechunker.feed(coded[at : at + cut]))]
    assert found == list(EVENTS)
    assert dechunker.ended


def test_a_chunk_extension_is_no_part_of_its_size() -> None:
    assert Dechunker().feed(b"3;name=value\r\nabc\r\n") == b"abc"


def test_a_size_that_is_no_number_is_a_bad_stream() -> None:
    with pytest.raises(BadStream, match="no size of a chunk"):
        Dechunker().feed(b"hello\r\n")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'{"choices":[{"index":0,"delta":{"role":"assistant","content":null}}]}', ""),
        (b'{"choices":[{"delta":{"content":"\\u00e9t"},"logprobs":null}],"usage":null}', "ét"),
        (b'{"choices":[{"text":"once"}]}', "once"),
        (b'{"choices":[],"usage":{"completion_tokens":3}}', ""),
    ],
)
def test_the_text_of_a_chunk_in_either_dialect(data: bytes, text: str) -> None:
    assert read_chunk(data).text == text


def test_what_is_no_chunk_is_a_bad_stream() -> None:
    with pytest.raises(BadStream, match="no chunk"):
        read_chunk(b"<html>")
