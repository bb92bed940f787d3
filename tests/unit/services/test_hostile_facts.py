"""What planning makes of wrong files: facts, or an error that says what is wrong; never a crash or a flood."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.support.hostile import corpus

from lilliput.errors import BadFile
from lilliput.gguf import BytesSource, read_header, write_stand_in
from lilliput.services.model_facts import facts_of

SLOW_S = 2.0


def test_the_facts_of_each_wrong_file_are_facts_or_a_bad_file(tmp_path: Path) -> None:
    known = 0
    for mutation in corpus():
        try:
            header = read_header(BytesSource(mutation.data, complete=False))
        except BadFile:
            continue
        began = time.perf_counter()
        try:
            facts = facts_of([header], len(mutation.data))
            write_stand_in(facts.header, tmp_path / "stand-in.gguf")
        except BadFile:
            pass
        except Exception as error:
            pytest.fail(f"{mutation.name}: {error!r}")
        else:
            known += 1
        assert time.perf_counter() - began < SLOW_S, mutation.name
    assert known > 100
