"""Where in a JSON schema a converter stands, and the refusals that name that place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from lilliput.errors import BadGrammar
from lilliput.llama.merge import Schema
from lilliput.llama.pattern import MAX_REPEATS

MAX_DEPTH = 64


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the schema: its path, its depth, the product of repetitions so far, the reference it stands in."""

    path: str = "#"
    depth: int = 0
    repeats: int = 1
    within: str | None = "#"

    def at(self, *keys: object) -> Place:
        """The place one level deeper, under these names."""
        return replace(self, path="/".join([self.path, *map(str, keys)]), depth=self.depth + 1)


def refuse(place: Place, keyword: str, why: str, hint: str = "change or leave out this part of the schema") -> NoReturn:
    """Raises BadGrammar that names the keyword, its path and the reason."""
    raise BadGrammar(
        f"the JSON schema cannot be enforced: {keyword[:80]} at {place.path[:200]}: {why[:300]}", hint=hint
    )


def count(schema: Schema, keyword: str, place: Place) -> int | None:
    """The bound on a count, None when it is not given; repetitions are limited, also those of nested parts."""
    value = schema.get(keyword)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value) or value < 0:
        refuse(place, keyword, "it is not a whole number of at least zero")
    if value * place.repeats > MAX_REPEATS:
        hint = "use smaller bounds, or none, and check the length of the answer yourself"
        refuse(place, keyword, f"it makes more than {MAX_REPEATS} repetitions, with those around it", hint)
    return int(value)


def times(least: int, most: int | None) -> str:
    """The GBNF suffix that repeats."""
    return "*" if (least, most) == (0, None) else f"{{{least},{'' if most is None else most}}}"


def is_type(value: object, type_: str) -> bool:
    """Whether the value is of the JSON type."""
    if isinstance(value, bool) or value is None:
        return type_ == ("null" if value is None else "boolean")
    if type_ == "integer":
        return isinstance(value, int)
    kinds = {"number": (int, float), "string": (str,), "array": (list,), "object": (dict,)}
    return isinstance(value, kinds.get(type_, ()))


def check_values(value: Any, place: Place) -> None:
    """Refuses texts that GBNF cannot hold and nesting that is too deep for any converter."""
    if place.depth > 4 * MAX_DEPTH:
        raise BadGrammar("the JSON schema is nested too deeply", hint=f"nest at most {MAX_DEPTH} schemas")
    if isinstance(value, str):
        if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
            refuse(place, "a text", "it has a NUL character or a lone surrogate")
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                refuse(place, "a name", "it is not a text")
            check_values(key, place)
            check_values(inner, place.at(key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            check_values(inner, place.at(index))
