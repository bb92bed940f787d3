from __future__ import annotations

import re

import pytest

from lilliput.units import GIB, MIB, format_age, format_bytes, format_duration, parse_bytes, parse_duration


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("1048576", MIB),
        ("600MiB", 600 * MIB),
        ("600 mib", 600 * MIB),
        ("2GB", 2_000_000_000),
        ("1.5GiB", GIB * 3 // 2),
        ("8G", 8_000_000_000),
        (" 512KiB ", 512 * 1024),
        ("1TiB", 1024 * GIB),
        ("17b", 17),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "GiB", "-1", "1,5GB", "1.GB", "12 apples", "1e9", "0x10", "nan"])
def test_anything_else_is_refused_with_the_text_in_the_message(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size") as caught:
        parse_bytes(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (3 * GIB // 2, "1.5 GiB"),
        (5000 * GIB, "4.9 TiB"),
        (-2 * MIB, "-2.0 MiB"),
    ],
)
def test_sizes_are_written_in_powers_of_1024(count: int, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.85, "850 ms"),
        (1, "1 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
    ],
)
def test_durations_are_written_for_people(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("300", 300),
        (" 1.5 ", 1.5),
        ("0", 0),
        ("-1", -1),
        ("10m", 600),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("500ms", 0.5),
        ("2D", 172_800),
        ("-1m", -60),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "-", "m", "10 minutes", "1h 30m", "1e3", "nan", "inf", "10x", "--5"])
def test_what_is_no_duration_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (119, "119 seconds"),
        (300, "5 minutes"),
        (129_600, "36 hours"),
        (604_800, "7 days"),
    ],
)
def test_ages_are_written_in_one_unit(seconds: float, text: str) -> None:
    assert format_age(seconds) == text
