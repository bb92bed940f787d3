"""Reads a client's GBNF before the library does, to say which line is wrong and to keep out what the library dies of.

llama.cpp's parser tells faults only on standard error. It recurses into groups, expands repetitions in memory, takes
``{5,2}`` for an endless one, and overlooks left recursion behind rules that are empty only by way of others, which then
never ends (llama-grammar.cpp of the bundled version).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from lilliput.errors import BadGrammar

MOST_CHARACTERS = 65_536
MOST_RULES = 1_000
MOST_NESTED = 64
MOST_REPETITIONS = 2_000
MOST_ELEMENTS = 200_000

_NAME = re.compile(r"[A-Za-z0-9-]+")
_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SPACE_AND_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_ESCAPE = re.compile(r'\\(?:x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|[trn\\"\[\]-])')
_TOKEN = re.compile(r"!?<(?:\[[0-9]{1,9}\]|[^>\[][^>]*)>")
_COUNT = re.compile(r"\{[ \t]*([0-9]{1,9})[ \t]*(?:(,)[ \t]*([0-9]{1,9})?[ \t]*)?\}")


@dataclass(slots=True)
class _Sequence:
    """One alternative: its items, each with whether it may be left out."""

    items: list[tuple[_Item, bool]] = field(default_factory=list)


@dataclass(slots=True)
class _Item:
    """A terminal (no name, no choices), a rule's name, or a group of choices."""

    name: str = ""
    choices: list[_Sequence] = field(default_factory=list)


def check_gbnf(text: str) -> None:
    """Raise BadGrammar that names the line unless ``text`` is a grammar that the library can work with."""
    if len(text) > MOST_CHARACTERS:
        raise BadGrammar(
            f"the grammar has {len(text)} characters, at most {MOST_CHARACTERS} are possible", hint="make it shorter"
        )
    reader = _Reader(text)
    reader.read()
    if "root" not in reader.rules:
        raise BadGrammar("the grammar has no rule called root", hint="its start rule must be called root")
    for name, at in reader.named.items():
        if name not in reader.rules:
            raise reader.fault(at, f"names the rule {name!r}, which is nowhere defined")
    _refuse_left_recursion(reader)


class _Reader:
    """Recursive descent over the text, as llama.cpp's parser reads it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._elements = 0
        self.rules: dict[str, list[_Sequence]] = {}
        self.places: dict[str, int] = {}
        self.named: dict[str, int] = {}

    def fault(self, at: int, what: str) -> BadGrammar:
        """The error for a place in the text."""
        line = self._text.count("\n", 0, at) + 1
        return BadGrammar(f"line {line} of the grammar {what}", hint="see llama.cpp's grammars/README.md for GBNF")

    def read(self) -> None:
        """Read all rules; raises BadGrammar."""
        self._skip(_SPACE_AND_LINES)
        while self._at < len(self._text):
            self._rule()
            self._skip(_SPACE_AND_LINES)

    def _rule(self) -> None:
        start = self._at
        name = self._take(_NAME)
        if not name:
            raise self._unexpected("where a rule's name must begin (letters, digits and -)")
        self._skip(_SPACE)
        if not self._text.startswith("::=", self._at):
            raise self._unexpected(f"where '::=' must follow {name!r}")
        if name in self.rules:
            raise self.fault(start, f"defines the rule {name!r} a second time")
        if len(self.rules) == MOST_RULES:
            raise self.fault(start, f"has one rule more than the {MOST_RULES} that are possible")
        self._at += 3
        self._skip(_SPACE_AND_LINES)
        self.places[name] = start
        self.rules[name] = self._choices(0)
        if self._at < len(self._text) and self._text[self._at] not in "\r\n":
            raise self._unexpected("where the rule must end")

    def _choices(self, depth: int) -> list[_Sequence]:
        if depth > MOST_NESTED:
            raise self.fault(self._at, f"nests groups deeper than {MOST_NESTED}")
        choices = [self._sequence(depth)]
        while self._text.startswith("|", self._at):
            self._at += 1
            self._skip(_SPACE_AND_LINES)
            choices.append(self._sequence(depth))
        return choices

    def _sequence(self, depth: int) -> _Sequence:
        found = _Sequence()
        space = _SPACE_AND_LINES if depth else _SPACE
        size = 0
        while self._at < len(self._text):
            start, char = self._at, self._text[self._at]
            if char in "*+?{":
                if not size:
                    raise self.fault(start, f"has {char!r} after nothing that could be repeated")
                least, most = self._repetition()
                item, optional = found.items[-1]
                found.items[-1] = (item, optional or least == 0)
                size = self._counted(start, size * max(least, most or 1, 1))
            else:
                read = self._item(char, depth)
                if read is None:
                    break
                item, size = read
                found.items += [(item, False)] if size else []
                self._counted(start, size)
            self._skip(space)
        return found

    def _item(self, char: str, depth: int) -> tuple[_Item, int] | None:
        """The item that begins here and its size in elements, 0 when it is empty; None when none begins."""
        start = self._at
        if char == "(":
            return self._group(depth)
        if char in '"[':
            return _Item(), self._characters(char)
        if char in "<!":
            if not self._take(_TOKEN):
                raise self._unexpected("where a token must be: <text>, <[id]> or ! before one of them")
            return _Item(), 1
        if char == ".":
            self._at += 1
            return _Item(), 1
        name = self._take(_NAME)
        if name:
            self.named.setdefault(name, start)
        return (_Item(name), 1) if name else None

    def _group(self, depth: int) -> tuple[_Item, int]:
        opened = self._at
        self._at += 1
        self._skip(_SPACE_AND_LINES)
        item = _Item(choices=self._choices(depth + 1))
        if not self._text.startswith(")", self._at):
            if self._at == len(self._text):
                raise self.fault(opened, "opens a group that is never closed")
            raise self._unexpected("where ')' must close a group")
        self._at += 1
        return item, 1

    def _characters(self, opening: str) -> int:
        """Read a literal or a set of characters; returns its elements."""
        text, count, opened = self._text, 0, self._at
        end = "]" if opening == "[" else opening
        self._at += 2 if text.startswith("[^", opened) else 1
        while self._at < len(text):
            char = text[self._at]
            if char == end:
                self._at += 1
                return count
            if char != "\\":
                self._at += 1
            elif not self._take(_ESCAPE):
                raise self.fault(self._at, f"has an unknown escape: {text[self._at : self._at + 2]!r}")
            count += 1
        raise self.fault(opened, f"opens with {text[opened]!r} what is never closed")

    def _repetition(self) -> tuple[int, int | None]:
        """Read a repetition; returns the least and the most times, None for no bound."""
        start = self._at
        plain = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(self._text[start])
        if plain is not None:
            self._at += 1
            return plain
        read = _COUNT.match(self._text, start)
        if read is None:
            raise self.fault(start, "has a repetition that is none of {n}, {n,} and {n,m}")
        self._at = read.end()
        least = int(read[1])
        most = least if read[2] is None else int(read[3]) if read[3] else None
        if max(least, most or 0) > MOST_REPETITIONS:
            raise self.fault(start, f"repeats something more than {MOST_REPETITIONS} times")
        if most is not None and most < least:
            raise self.fault(start, f"repeats something at least {least} and at most {most} times")
        return least, most

    def _counted(self, start: int, elements: int) -> int:
        self._elements += elements
        if self._elements > MOST_ELEMENTS:
            raise self.fault(start, f"makes the grammar larger than {MOST_ELEMENTS} elements; repeat less")
        return elements

    def _take(self, pattern: re.Pattern[str]) -> str:
        read = pattern.match(self._text, self._at)
        if read is None:
            return ""
        self._at = read.end()
        return read[0]

    def _skip(self, space: re.Pattern[str]) -> None:
        self._take(space)

    def _unexpected(self, where: str) -> BadGrammar:
        if self._at >= len(self._text):
            return self.fault(self._at, f"ends {where}")
        return self.fault(self._at, f"has {self._text[self._at]!r} {where}")


def _refuse_left_recursion(reader: _Reader) -> None:
    empty = _possibly_empty(reader.rules)
    first = {
        name: {one for choice in choices for one in _first_names(choice, empty)}
        for name, choices in reader.rules.items()
    }
    done: set[str] = set()
    for start in first:
        path: dict[str, list[str]] = {}
        todo = [start]
        while todo:
            name = todo[-1]
            if name not in path and name not in done:
                path[name] = list(first[name])
            following = path.get(name)
            if not following:
                todo.pop()
                path.pop(name, None)
                done.add(name)
                continue
            step = following.pop()
            if step in path:
                raise reader.fault(
                    reader.places[step], f"begins the rule {step!r} with itself (left recursion), which never ends"
                )
            if step not in done:
                todo.append(step)


def _possibly_empty(rules: dict[str, list[_Sequence]]) -> set[str]:
    """Names of the rules that match the empty text, directly or by way of others."""
    users: dict[str, set[str]] = {name: set() for name in rules}
    for name, choices in rules.items():
        for used in _names(choices):
            users[used].add(name)
    empty: set[str] = set()
    todo = set(rules)
    while todo:
        name = todo.pop()
        if name not in empty and any(_is_empty(choice, empty) for choice in rules[name]):
            empty.add(name)
            todo |= users[name] - empty
    return empty


def _names(choices: list[_Sequence]) -> Iterator[str]:
    for choice in choices:
        for item, _ in choice.items:
            if item.name:
                yield item.name
            yield from _names(item.choices)


def _is_empty(sequence: _Sequence, empty: set[str]) -> bool:
    return all(optional or _item_is_empty(item, empty) for item, optional in sequence.items)


def _item_is_empty(item: _Item, empty: set[str]) -> bool:
    return item.name in empty or any(_is_empty(choice, empty) for choice in item.choices)


def _first_names(sequence: _Sequence, empty: set[str]) -> Iterator[str]:
    for item, optional in sequence.items:
        if item.name:
            yield item.name
        for choice in item.choices:
            yield from _first_names(choice, empty)
        if not optional and not _item_is_empty(item, empty):
            return
