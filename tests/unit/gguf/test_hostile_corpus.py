"""Whatever is wrong with a file, reading its header ends soon, in a header or in an error that says what it is."""

from __future__ import annotations

import time
import tracemalloc

import pytest
from tests.support.hostile import corpus, sound

from lilliput.errors import BadFile
from lilliput.gguf import BytesSource, read_header
from lilliput.units import MIB

SLOW_S = 5.0
"""Reading takes a millisecond, of 20,000 tensors a fifth of a second; watching memory makes it seven times that."""


def test_the_model_that_is_made_wrong_is_sound() -> None:
    header = read_header(BytesSource(sound().encode()))
    assert (header.architecture, header.block_count, header.vocab_size) == ("llama", 2, 640)
    assert header.quantization == "Q8_0"


def test_there_are_enough_ways_to_be_wrong_and_each_has_a_name() -> None:
    names = [mutation.name for mutation in corpus()]
    assert len(names) > 500
    assert len(set(names)) == len(names)


def test_each_is_a_header_or_a_bad_file_in_bounded_time_and_memory() -> None:
    refused, slowest_s = 0, 0.0
    tracemalloc.start()
    try:
        for mutation in corpus():
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            began = time.perf_counter()
            try:
                read_header(BytesSource(mutation.data), name=mutation.name)
            except BadFile as error:
                refused += error.hint is not None
            except Exception as error:
                pytest.fail(f"{mutation.name}: {error!r}")
            slowest_s = max(slowest_s, time.perf_counter() - began)
            peak = tracemalloc.get_traced_memory()[1] - before
            assert peak < 24 * MIB + len(mutation.data), f"{mutation.name} took {peak:,} bytes"
    finally:
        tracemalloc.stop()
    assert refused > 300
    assert slowest_s < SLOW_S
