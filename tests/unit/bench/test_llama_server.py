from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from bench.peers.llama_server import WITHOUT_AMX, build_key, command, progress_percent


@pytest.mark.parametrize(
    ("line", "percent"),
    [
        ("[21/208] Building CXX object common/a.o", 10),
        ("[208/208] Linking", 100),
        ("[ 45%] Built target ggml", 45),
        ("-- Found OpenMP", None),
        ("In file included from x:[3/4]", None),
    ],
)
def test_how_far_a_build_is(line: str, percent: int | None) -> None:
    assert progress_percent(line) == percent


def test_another_build_has_another_key() -> None:
    assert build_key(()) == build_key(())
    assert build_key(()) != build_key(WITHOUT_AMX)


def test_the_peer_gets_the_same_pool_slots_and_threads() -> None:
    words = command(Path("llama-server"), Path("m.gguf"), 8080, 8192, 8, 2)
    options = dict(pairwise(words))
    assert (options["--ctx-size"], options["--parallel"], options["--threads"]) == ("8192", "8", "2")
    assert (options["--host"], "--kv-unified" in words) == ("127.0.0.1", True)
