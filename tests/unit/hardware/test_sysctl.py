from __future__ import annotations

import ctypes
import platform

import pytest

from lilliput.hardware import sysctl


class FakeLibrary:
    """``sysctlbyname`` over a table, with the calling convention of the real one."""

    def __init__(self, values: dict[str, bytes], *, fails_late: bool = False) -> None:
        self._values = values
        self._fails_late = fails_late

    def sysctlbyname(self, name: bytes, buffer: ctypes.Array[ctypes.c_char] | None, size: object, *_: object) -> int:
        value = self._values.get(name.decode())
        if value is None or (buffer is not None and self._fails_late):
            return -1
        if buffer is not None:
            ctypes.memmove(buffer, value, len(value))
        size._obj.value = len(value)  # type: ignore[attr-defined]  # what byref() points at
        return 0


def use(monkeypatch: pytest.MonkeyPatch, library: FakeLibrary) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)


def test_numbers_of_both_widths_and_texts_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"four": (7).to_bytes(4, "little"), "eight": (2**40).to_bytes(8, "little"), "text": b"Apple M2\0"}
    use(monkeypatch, FakeLibrary(values))
    assert (sysctl.sysctl_number("four"), sysctl.sysctl_number("eight")) == (7, 2**40)
    assert sysctl.sysctl_text("text") == "Apple M2"
    assert sysctl.sysctl_number("text") is None


@pytest.mark.parametrize("fails_late", [False, True])
def test_what_does_not_exist_or_fails_is_none(monkeypatch: pytest.MonkeyPatch, fails_late: bool) -> None:
    use(monkeypatch, FakeLibrary({"four": b"\1\0\0\0"} if fails_late else {}, fails_late=fails_late))
    assert (sysctl.sysctl_number("four"), sysctl.sysctl_text("four")) == (None, None)


def test_other_systems_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, FakeLibrary({"four": b"\1\0\0\0"}))
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    assert sysctl.sysctl_number("four") is None
