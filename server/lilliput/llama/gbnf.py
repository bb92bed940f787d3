"""Pieces of GBNF text: literals, character sets and number ranges, each as JSON text spells them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

Range = tuple[int, int]

_ESCAPES = {"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"}
_CHARACTERS: tuple[Range, ...] = ((0x01, 0xD7FF), (0xE000, 0x10FFFF))
_ESCAPED_IN_JSON: tuple[Range, ...] = ((0x01, 0x1F), (0x22, 0x22), (0x5C, 0x5C))
_DIGITS = 16
_FRACTION = '"." [0-9]{1,15}'
_ZERO_FRACTION = '"." "0"{1,15}'
_POSITIVE_FRACTION = '"." "0"{0,14} [1-9] [0-9]{0,14}'

_YEAR = "[1-9] [0-9]{3}"
_LEAP_YEAR = (
    '( [1-9] [0-9] ( "0" [48] | [2468] [048] | [13579] [26] ) | ( [2468] [048] | [13579] [26] ) "00" )'  # 1004 to 9996
)
_DATE = (
    f'{_YEAR} "-" ( ( "0" [13578] | "1" [02] ) "-" ( "0" [1-9] | [12] [0-9] | "3" [01] )'
    ' | ( "0" [469] | "11" ) "-" ( "0" [1-9] | [12] [0-9] | "30" ) | "02-" ( "0" [1-9] | "1" [0-9] | "2" [0-8] ) )'
    f' | {_LEAP_YEAR} "-02-29"'
)
_HOUR_MINUTE = '( [01] [0-9] | "2" [0-3] ) ":" [0-5] [0-9]'

# Rules that any grammar made from a schema may name; only those reached from the root are written out.
BUILT_IN: dict[str, tuple[str, tuple[str, ...]]] = {
    "space": (r'| " " | "\n" [ \t]{0,20}', ()),
    "hex": ("[0-9a-fA-F]", ()),
    # Escapes of lone surrogates are left out: strict parsers refuse them.
    "char": (
        r'[^"\\\x00-\x1F] | "\\" ( ["\\/bfnrt] | "u" ( [0-9abcefABCEF] hex hex hex | [dD] [0-7] hex hex'
        r' | [dD] [89abAB] hex hex "\\u" [dD] [c-fC-F] hex hex ) )',
        ("hex",),
    ),
    "string": (r'"\"" char* "\""', ("char",)),
    "integer": ('"-"? ( "0" | [1-9] [0-9]{0,15} )', ()),
    "number": ('integer ( "." [0-9]{1,15} )? ( [eE] [-+]? [0-9]{1,2} )?', ("integer",)),
    "boolean": ('"true" | "false"', ()),
    "null": ('"null"', ()),
    "array": ('"[" space ( value ( space "," space value )* space )? "]"', ("space", "value")),
    "object": ('"{" space ( member ( space "," space member )* space )? "}"', ("space", "member")),
    "member": ('string space ":" space value', ("string", "space", "value")),
    "value": (
        "object | array | string | number | boolean | null",
        ("object", "array", "string", "number", "boolean", "null"),
    ),
    "date-text": (_DATE, ()),
    "time-text": (f'{_HOUR_MINUTE} ":" [0-5] [0-9] ( "." [0-9]{{1,6}} )? ( "Z" | [-+] {_HOUR_MINUTE} )', ()),
    "date": (r'"\"" date-text "\""', ("date-text",)),
    "time": (r'"\"" time-text "\""', ("time-text",)),
    "date-time": (r'"\"" date-text "T" time-text "\""', ("date-text", "time-text")),
    "uuid": (r'"\"" hex{8} "-" hex{4} "-" hex{4} "-" hex{4} "-" hex{12} "\""', ("hex",)),
}


def literal(text: str) -> str:
    """The GBNF literal that matches exactly this text."""
    return '"' + "".join(_ESCAPES.get(char) or (char if char >= " " else f"\\x{ord(char):02X}") for char in text) + '"'


def complement(ranges: Iterable[Range]) -> list[Range]:
    """The characters, without NUL and surrogates, that are in none of the code point ranges; sorted and disjoint."""
    result = list(_CHARACTERS)
    for low, high in ranges:
        kept: list[Range] = []
        for first, last in result:
            kept += (
                [part for part in ((first, min(last, low - 1)), (max(first, high + 1), last)) if part[0] <= part[1]]
                if low <= last and high >= first
                else [(first, last)]
            )
        result = kept
    return sorted(result)


def character_set(ranges: Iterable[Range]) -> str | None:
    """GBNF for one character of the code point ranges inside a JSON string; None when there is none."""
    members = complement(complement(ranges))
    special = complement([*complement(members), *complement(_ESCAPED_IN_JSON)])
    plain = complement([*complement(members), *_ESCAPED_IN_JSON])
    parts = ["[" + "".join(_class_range(*part) for part in plain) + "]"] if plain else []
    parts += [
        literal(json.dumps(chr(code), ensure_ascii=False)[1:-1])
        for low, high in special
        for code in range(low, high + 1)
    ]
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else "( " + " | ".join(parts) + " )"


def _class_range(low: int, high: int) -> str:
    return _class_char(low) if low == high else f"{_class_char(low)}-{_class_char(high)}"


def _class_char(code: int) -> str:
    char = chr(code)
    if char.isascii() and char.isalnum():
        return char
    if code <= 0xFF:
        return f"\\x{code:02X}"
    return f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"


def _other_key(keys: Sequence[str]) -> str:
    """The rest of a key that is none of the given rests; escapes are left out, since they could spell a given one."""
    heads = sorted({key[0] for key in keys if key})
    plain = complement([*_ESCAPED_IN_JSON, *((ord(head), ord(head)) for head in heads)])
    anything = complement(_ESCAPED_IN_JSON)
    parts = [f"{character_set(plain)} {character_set(anything)}*"]
    parts += [
        f"{character_set([(ord(head), ord(head))])} {_other_key([key[1:] for key in keys if key[:1] == head])}"
        for head in heads
    ]
    text = " | ".join(parts)
    return f"( {text} )" if "" in keys else f"( {text} )?"


def other_key(keys: Sequence[str]) -> str:
    """GBNF for a JSON object key, with its quotes, that is none of the given keys."""
    return rf'"\"" {_other_key(keys)} "\""'


def _same_length(low: str, high: str) -> list[str]:
    """Alternatives for the numbers between two of the same count of digits."""
    if low == high:
        return [literal(low)]
    if set(low) == {"0"} and set(high) == {"9"}:
        return [f"[0-9]{{{len(low)}}}"]
    first, last, rest = int(low[0]), int(high[0]), len(low) - 1
    if rest == 0:
        return [f"[{first}-{last}]"]
    if first == last:
        return [f"{literal(low[0])} ( {' | '.join(_same_length(low[1:], high[1:]))} )"]
    parts = []
    if low[1:] != "0" * rest:
        parts.append(f"{literal(low[0])} ( {' | '.join(_same_length(low[1:], '9' * rest))} )")
        first += 1
    end = last if high[1:] == "9" * rest else last - 1
    if first <= end:
        parts.append(f"[{first}-{end}] [0-9]{{{rest}}}")
    if end != last:
        parts.append(f"{literal(high[0])} ( {' | '.join(_same_length('0' * rest, high[1:]))} )")
    return parts


def _whole(low: int, high: int) -> list[str]:
    """Alternatives for the whole numbers from low to high, both at least zero."""
    parts = []
    while low <= high:
        end = min(high, 10 ** len(str(low)) - 1)
        parts += _same_length(str(low), str(end))
        low = end + 1
    return parts


def integer_range(low: int | None, high: int | None) -> str | None:
    """GBNF for an integer within inclusive bounds; None when there is none. An open side ends at 16 digits or more."""
    low, high = _closed(low, high)
    if low > high:
        return None
    parts = _whole(max(low, 0), high)
    if low < 0:
        parts += [f'"-" ( {" | ".join(_whole(max(1, -high), -low))} )']
    return " | ".join(parts)


def _closed(low: int | None, high: int | None) -> Range:
    limit = 10 ** max(_DIGITS, 1 + max(len(str(abs(bound or 0))) for bound in (low, high))) - 1
    return -limit if low is None else low, limit if high is None else high


def _decimals(low: int, high: int, with_low: bool, with_high: bool) -> list[str]:
    """Alternatives for decimal numbers between whole bounds of at least zero."""
    if low > high or (low == high and not (with_low and with_high)):
        return []
    parts = [f"{literal(str(high))} ( {_ZERO_FRACTION} )?"] if with_high else []
    if low < high and not with_low:
        parts.append(f"{literal(str(low))} {_POSITIVE_FRACTION}")
    start = low if with_low else low + 1
    if start < high:
        parts.append(f"( {' | '.join(_whole(start, high - 1))} ) ( {_FRACTION} )?")
    return parts


def number_range(low: int | None, high: int | None, with_low: bool, with_high: bool) -> str | None:
    """GBNF for a decimal number between whole bounds, each within or not; None when there is none."""
    low, high = _closed(low, high)
    if low > high:
        return None
    parts = _decimals(max(low, 0), high, with_low or low < 0, with_high)
    if low < 0:
        negative = _decimals(max(-high, 0), -low, with_high and high < 0, with_low)
        parts += [f'"-" ( {" | ".join(negative)} )'] if negative else []
    return " | ".join(parts) or None
