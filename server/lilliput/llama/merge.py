"""JSON schemas that must hold together, joined into one; and whether two of them exclude each other."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

Schema = Mapping[str, Any]

KEYWORDS = {
    "object": frozenset({"properties", "required", "additionalProperties"}),
    "array": frozenset({"items", "prefixItems", "minItems", "maxItems"}),
    "string": frozenset({"minLength", "maxLength", "pattern", "format"}),
    "integer": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
    "number": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
    "boolean": frozenset[str](),
    "null": frozenset[str](),
}
_LOWER = {"minimum", "exclusiveMinimum", "minLength", "minItems"}
_UPPER = {"maximum", "exclusiveMaximum", "maxLength", "maxItems"}


class Conflict(ValueError):
    """Two schemas that cannot be joined; its text says why."""


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def types_of(schema: Schema) -> list[str]:
    """The types that the schema allows, as its ``type`` or else its keywords say; every type when neither does."""
    given = schema.get("type")
    if given is not None:
        names = [given] if isinstance(given, str) else given
        if not isinstance(names, list) or not names or any(name not in list(KEYWORDS) for name in names):
            raise Conflict(f"{given!r} is not a type")
        return ["number" if name == "integer" and "number" in names else name for name in dict.fromkeys(names)]
    implied = [name for name in KEYWORDS if name != "integer" and KEYWORDS[name] & schema.keys()]
    return implied or [name for name in KEYWORDS if name != "integer"]


def joined(left: Schema, right: Schema) -> dict[str, Any]:
    """One schema for what both allow, neither with references; raises Conflict where that is not a simple joining."""
    result = {**left, **right}
    for key in left.keys() & right.keys():
        one, other = left[key], right[key]
        if key == "type":
            result[key] = _common_types(left, right)
        elif key == "properties" and isinstance(one, Mapping) and isinstance(other, Mapping):
            both = one.keys() & other.keys()
            result[key] = {**one, **other} | {name: {"allOf": [one[name], other[name]]} for name in both}
        elif key == "required" and isinstance(one, list) and isinstance(other, list):
            result[key] = [*one, *other]
        elif key in _LOWER and _is_number(one) and _is_number(other):
            result[key] = max(one, other)
        elif key in _UPPER and _is_number(one) and _is_number(other):
            result[key] = min(one, other)
        elif json.dumps(one) != json.dumps(other):
            raise Conflict(f"two different values of {key!r} must hold together")
    for closed, open_ in ((left, right), (right, left)):
        names = {*(open_.get("properties") or ()), *(open_.get("required") or ())}
        if closed.get("additionalProperties", True) is not True and not names <= {*(closed.get("properties") or ())}:
            raise Conflict("one schema has additionalProperties and another has properties that the first lacks")
    return result


def _common_types(left: Schema, right: Schema) -> list[str]:
    ours, theirs = types_of(left), types_of(right)
    common = [name for name in ours if name in theirs or (name == "integer" and "number" in theirs)]
    common += [name for name in theirs if name == "integer" and "number" in ours]
    if not common:
        raise Conflict("no type is allowed by all of its schemas")
    return list(dict.fromkeys(common))


def _values(schema: object) -> set[str] | None:
    if not isinstance(schema, Mapping) or not ("const" in schema or isinstance(schema.get("enum"), list)):
        return None
    values: Iterable[Any] = [schema["const"]] if "const" in schema else schema["enum"]
    return {json.dumps(value, sort_keys=True) for value in values}


def apart(left: Schema, right: Schema) -> bool:
    """Whether it is plain that no value fits both schemas: by their types, constants, or a required constant."""
    ours, theirs = _values(left), _values(right)
    if ours is not None and theirs is not None:
        return not ours & theirs
    if {"anyOf", "oneOf"} & (left.keys() | right.keys()) or not ("type" in left and "type" in right):
        return False
    mine, yours = ({"number" if name == "integer" else name for name in types_of(schema)} for schema in (left, right))
    if not mine & yours:
        return True
    if mine != {"object"} or yours != {"object"}:
        return False
    for name in {*left.get("required", ())} & {*right.get("required", ())}:
        ours, theirs = (_values((schema.get("properties") or {}).get(name)) for schema in (left, right))
        if ours is not None and theirs is not None and not ours & theirs:
            return True
    return False
