"""Free memory that the C library keeps."""

from __future__ import annotations

import ctypes
import os
import platform
from types import SimpleNamespace

import pytest

from lilliput.engine.heap import give_back
from lilliput.hardware import private_bytes
from lilliput.units import MIB


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the call")
def test_what_was_freed_in_small_pieces_goes_back_to_the_system() -> None:
    kept = [bytes([1]) * (100_000 + number) for number in range(1000)]
    last = bytes(100_000)  # what is freed lies below it: glibc would give back only what is above
    before = private_bytes(os.getpid())
    del kept
    assert give_back()
    assert private_bytes(os.getpid()) < before - 50 * MIB
    assert len(last) == 100_000


@pytest.mark.parametrize("missing", [SimpleNamespace(), None])
def test_elsewhere_nothing_is_asked(monkeypatch: pytest.MonkeyPatch, missing: object) -> None:
    def load(_name: None) -> object:
        if missing is None:
            raise TypeError("argument of type 'NoneType' is not iterable")
        return missing

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert not give_back()
