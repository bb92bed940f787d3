"""Regular expressions of JSON schemas as GBNF for the JSON string that they match."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lilliput.llama.gbnf import Range, character_set, complement

MAX_PATTERN_CHARS = 1024
MAX_REPEATS = 2000
_MAX_DEPTH = 64
_MAX_CHOICES = 64
_MAX_SPAN = 1000

_DIGIT: list[Range] = [(0x30, 0x39)]
_WORD: list[Range] = [(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)]
_BLANK: list[Range] = [
    *((0x09, 0x0D), (0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029)),
    *((0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF)),
]
_CLASSES = {
    **{"d": _DIGIT, "w": _WORD, "s": _BLANK},
    **{"D": complement(_DIGIT), "W": complement(_WORD), "S": complement(_BLANK)},
}
_CONTROLS = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13}
_DOT = complement([(0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029)])
_QUANTIFIER = re.compile(r"([*+?])|\{([0-9]{1,9})(?:(,)([0-9]{1,9})?)?\}")
_CODE = re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|u\{([0-9a-fA-F]{1,6})\}")
_GROUP = re.compile(r"\((?:\?:|\?P?<[A-Za-z_]\w*>|(?!\?))")


class PatternError(ValueError):
    """What a pattern says that cannot be enforced."""


@dataclass(frozen=True, slots=True)
class _Part:
    """GBNF of a part of the pattern, and what tells how hard it is to match.

    Whether it matches the empty text, its largest product of repetitions, and how many of its repetitions have a choice
    of how often, with the sum of these choices: each may be a state that the library keeps at the same time.
    """

    text: str
    empty: bool
    repeats: int = 1
    choices: int = 0
    span: int = 0


class _Reader:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self._depth = 0

    def read(self) -> _Part:
        part = self._alternatives()
        if self._at < len(self._pattern):
            raise PatternError("it has a ) without its (")
        return part

    def _next(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _alternatives(self) -> _Part:
        parts = [self._sequence()]
        while self._next() == "|":
            self._at += 1
            parts.append(self._sequence())
        return _Part(
            "( " + " | ".join(part.text or '""' for part in parts) + " )",
            any(part.empty for part in parts),
            max(part.repeats for part in parts),
            sum(part.choices for part in parts),
            sum(part.span for part in parts),
        )

    def _sequence(self) -> _Part:
        parts: list[_Part] = []
        outer = self._depth == 0
        starts = outer and self._next() == "^"
        ends = False
        self._at += starts
        while (char := self._next()) and char not in "|)":
            if outer and char == "$" and self._pattern[self._at + 1 : self._at + 2] in ("", "|"):
                self._at += 1
                ends = True
                break
            parts.append(self._quantified())
        # Without anchors a pattern may match anywhere in the text.
        before = "char* " if outer and not starts else ""
        after = " char*" if outer and not ends else ""
        return _Part(
            before + " ".join(part.text for part in parts) + after,
            all(part.empty for part in parts),
            max((part.repeats for part in parts), default=1),
            sum(part.choices for part in parts) + bool(before) + bool(after),
            sum(part.span for part in parts) + bool(before) + bool(after),
        )

    def _quantified(self) -> _Part:
        part = self._atom()
        match = _QUANTIFIER.match(self._pattern, self._at)
        if match is None:
            return part
        self._at = match.end()
        if self._next() == "?":
            self._at += 1  # a lazy repetition matches the same texts
        if self._next() and self._next() in "*+?":
            raise PatternError(f"it repeats a repetition at character {self._at}")
        sign, low, comma, high = match.groups()
        if sign == "?":
            return _Part(f"( {part.text} )?", True, part.repeats, part.choices + 1, part.span + 1)
        if part.empty:
            raise PatternError(f"before character {self._at} it repeats something that may be empty")
        if sign:
            return _Part(f"( {part.text} ){sign}", sign == "*", part.repeats, part.choices + 1, part.span + 1)
        least, most = int(low), int(high or low)
        if least > most:
            raise PatternError(f"the repetition {match.group()} ends before it starts")
        if most * part.repeats > MAX_REPEATS:
            raise PatternError(f"it repeats more than {MAX_REPEATS} times")
        if high == "0" or (most == 0 and not comma):
            return _Part('""', True)
        suffix = f"{{{least},{high or ''}}}" if comma else f"{{{least}}}"
        times, span = max(1, most), most - least if high else int(bool(comma))
        return _Part(
            f"{part.text}{suffix}",
            least == 0,
            times * part.repeats,
            times * part.choices + (span > 0),
            times * part.span + span,
        )

    def _atom(self) -> _Part:
        char = self._next()
        if char == "(":
            return self._group()
        if char == "[":
            return self._set(self._class())
        if char in "^$":
            raise PatternError(f"it has an anchor {char} that is not at an end of the pattern")
        if char in "*+?{":
            raise PatternError(f"nothing stands before {char} at character {self._at}, or it must be escaped")
        if char == "\\":
            return self._set(self._escape())
        self._at += 1
        return self._set(_DOT if char == "." else [(ord(char), ord(char))])

    def _set(self, ranges: list[Range]) -> _Part:
        text = character_set(ranges)
        if text is None:
            raise PatternError("it asks for a character that cannot be (NUL, a surrogate or an empty class)")
        return _Part(text, False)

    def _group(self) -> _Part:
        match = _GROUP.match(self._pattern, self._at)
        if match is None:
            raise PatternError(f"the group {self._pattern[self._at : self._at + 4]}… cannot be enforced")
        self._at = match.end()
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise PatternError(f"its groups are nested more than {_MAX_DEPTH} deep")
        part = self._alternatives()
        if self._next() != ")":
            raise PatternError("it has a ( without its )")
        self._at += 1
        self._depth -= 1
        return part

    def _escape(self, in_class: bool = False) -> list[Range]:
        self._at += 1
        char = self._next()
        if code := _CODE.match(self._pattern, self._at):
            self._at = code.end()
            number = int(code.group(1) or code.group(2) or code.group(3), 16)
            return [(number, number)]
        self._at += 1
        if char in _CLASSES and char:
            return _CLASSES[char]
        if char in _CONTROLS:
            return [(_CONTROLS[char], _CONTROLS[char])]
        if in_class and char == "b":
            return [(8, 8)]
        if not char or char.isalnum():
            raise PatternError(f"the escape \\{char} cannot be enforced")
        return [(ord(char), ord(char))]

    def _class_member(self) -> list[Range]:
        if not self._next():
            raise PatternError("it has a [ without its ]")
        if self._next() == "\\":
            return self._escape(in_class=True)
        self._at += 1
        code = ord(self._pattern[self._at - 1])
        return [(code, code)]

    def _class(self) -> list[Range]:
        self._at += 1
        negated = self._next() == "^"
        self._at += negated
        ranges: list[Range] = []
        while self._next() != "]":
            low = self._class_member()
            if self._next() == "-" and self._pattern[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                high = self._class_member()
                if not (len(low) == len(high) == 1 and low[0][0] == low[0][1] and high[0][0] == high[0][1]):
                    raise PatternError("a character class has a range whose end is a class")
                if low[0][0] > high[0][0]:
                    raise PatternError(
                        f"the class that ends before character {self._at} has a range that is the wrong way round"
                    )
                low = [(low[0][0], high[0][0])]
            ranges += low
        self._at += 1
        return complement(ranges) if negated else ranges


def gbnf_of_pattern(pattern: str) -> tuple[str, int]:
    """GBNF for a JSON string that the pattern matches, and its largest product of repetitions; raises PatternError.

    The text names the rule ``char`` where the pattern has no anchor.
    """
    if len(pattern) > MAX_PATTERN_CHARS:
        raise PatternError(f"it is longer than {MAX_PATTERN_CHARS} characters")
    part = _Reader(pattern).read()
    if part.choices > _MAX_CHOICES or (part.choices > 1 and part.span > _MAX_SPAN):
        raise PatternError("it has too many repetitions that may each match more or less")
    return rf'"\"" {part.text} "\""', part.repeats
