"""JSON schemas as GBNF: every keyword is enforced, an annotation, or refused by name; what is written is also bounded.

The grammar may allow fewer texts than the schema (no white space at the ends, constants in one spelling, no properties
beyond the declared ones unless the schema says so), never more.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from typing import Any
from urllib.parse import unquote

from lilliput.errors import BadGrammar
from lilliput.llama.gbnf import BUILT_IN, integer_range, literal, number_range, other_key
from lilliput.llama.merge import KEYWORDS, Conflict, Schema, apart, joined, types_of
from lilliput.llama.pattern import MAX_REPEATS, gbnf_of_pattern
from lilliput.llama.place import MAX_DEPTH, Place, check_values, count, is_type, refuse, times

MAX_SCHEMA_BYTES = 64 << 10
MAX_GBNF_BYTES = 256 << 10
MAX_ENUM_VALUES = 512
MAX_PROPERTIES = 512
MAX_ALL_REPEATS = 200_000
_MAX_STEPS = 20_000
_MAX_KEY_CHARS = 128
_MAX_BOUND = 10**30

_ANNOTATIONS = frozenset(
    {
        *("title", "description", "default", "examples", "example", "$schema", "$id", "$comment", "$defs"),
        *("definitions", "deprecated", "readOnly", "writeOnly", "discriminator", "externalDocs"),
        *("contentEncoding", "contentMediaType"),
    }
)
_COMBINING = frozenset({"$ref", "allOf", "anyOf", "oneOf", "enum", "const", "type"})
_ENFORCED = _COMBINING.union(*KEYWORDS.values())
_FORMATS = {"date", "time", "date-time", "uuid"}


class _Converter:
    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._rules: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._references: dict[str, str] = {}
        self._waiting: list[str] = []
        self._edges: dict[str, set[str]] = {}
        self._size = 0
        self._steps = 0
        self._repeats = 0

    def convert(self) -> str:
        """The whole grammar, root first."""
        root = self._reference("#", Place(within=None))
        while self._waiting:
            ref = self._waiting.pop()
            place = Place(path=ref, within=ref)
            self._write(self._references[ref], self._visit(self._target(ref, place), place))
        try:
            TopologicalSorter(self._edges).prepare()
        except CycleError as error:
            refuse(Place(str(error.args[1][0])), "$ref", "it leads back to itself without anything between")
        self._write("root", root)
        return "\n".join(f"{name} ::= {text}" for name, text in [("root", root), *self._rules.items()]) + "\n"

    def _write(self, name: str, text: str) -> None:
        self._size += len(name) + len(text.encode()) + 6
        if self._size > MAX_GBNF_BYTES:
            hint = "ask for less in one answer: fewer or shorter enums, patterns and properties"
            raise BadGrammar(f"the JSON schema makes a grammar of more than {MAX_GBNF_BYTES >> 10} KiB", hint=hint)
        if name != "root":
            self._rules[name] = text

    def _rule(self, text: str, repeats: int = 0) -> str:
        """The name of a rule; the library writes out each repetition, so their sum over all rules is limited."""
        name = self._names.get(text)
        if name is None:
            self._repeats += repeats
            if self._repeats > MAX_ALL_REPEATS:
                hint = "use smaller or fewer bounds, or equal ones"
                raise BadGrammar(f"the JSON schema asks for more than {MAX_ALL_REPEATS} repetitions in all", hint=hint)
            name = self._names[text] = f"r{len(self._names)}"
            self._write(name, text)
        return name

    def _built_in(self, name: str) -> str:
        if name not in self._rules:
            text, needs = BUILT_IN[name]
            self._write(name, text)
            for need in needs:
                self._built_in(need)
        return name

    def _step(self, schema: object, place: Place) -> Schema:
        """The schema without its annotations, when all its keywords can be enforced."""
        self._steps += 1
        if place.depth > MAX_DEPTH or self._steps > _MAX_STEPS:
            refuse(place, "the schema", f"it is nested more than {MAX_DEPTH} deep, or its references unfold too far")
        if schema is True:
            return {}
        if not isinstance(schema, Mapping):
            refuse(place, "the schema", "no value is allowed here" if schema is False else "it is not an object")
        kept = {key: value for key, value in schema.items() if key not in _ANNOTATIONS and not key.startswith("x-")}
        for key in kept:
            if key not in _ENFORCED:
                refuse(place, key, "this keyword cannot be enforced", "leave it out, and check the answer yourself")
        return kept

    def _target(self, ref: object, place: Place) -> Any:
        if not isinstance(ref, str) or not (ref == "#" or ref.startswith("#/")):
            refuse(place, "$ref", "only references into this schema (#/…) are followed", "put the target into $defs")
        target: Any = self._schema
        for part in ref.split("/")[1:]:
            key = unquote(part).replace("~1", "/").replace("~0", "~")
            if isinstance(target, list) and key.isascii() and key.isdigit() and len(key) < 6 and int(key) < len(target):
                target = target[int(key)]
            elif isinstance(target, Mapping) and key in target:
                target = target[key]
            else:
                refuse(place, "$ref", f"its target {ref[:200]} is not in the schema")
        return target

    def _reference(self, ref: str, place: Place) -> str:
        self._target(ref, place)
        if place.within is not None:
            self._edges.setdefault(place.within, set()).add(ref)
        if ref not in self._references:
            self._references[ref] = f"ref{len(self._references)}"
            self._waiting.append(ref)
        return self._references[ref]

    def _expanded(self, schema: object, place: Place, seen: frozenset[str] = frozenset()) -> Schema:
        """The schema with its reference and allOf joined into it."""
        kept = self._step(schema, place)
        result: Schema = {key: value for key, value in kept.items() if key not in ("$ref", "allOf")}
        parts = kept.get("allOf", [])
        if not isinstance(parts, list):
            refuse(place, "allOf", "it is not a list")
        expanded = [self._expanded(part, place.at("allOf", index), seen) for index, part in enumerate(parts)]
        if "$ref" in kept:
            target, ref = self._target(kept["$ref"], place), kept["$ref"]
            if ref in seen:
                refuse(place, "$ref", "it leads back to itself without anything between")
            expanded.append(self._expanded(target, place.at("$ref"), seen | {ref}))
        try:
            for part in expanded:
                result = joined(result, part)
        except (Conflict, TypeError) as error:
            refuse(place, "allOf" if parts else "$ref", str(error))
        return result

    def _visit(self, schema: object, place: Place) -> str:
        """The name of a rule for one value of the schema."""
        kept = self._step(schema, place)
        if kept.keys() == {"$ref"}:
            return self._reference(str(kept["$ref"]), place)
        if "$ref" in kept or "allOf" in kept:
            kept = self._expanded(kept, place)
        if "anyOf" in kept or "oneOf" in kept:
            return self._union(kept, place)
        if "enum" in kept or "const" in kept:
            return self._constants(kept, place)
        if not kept:
            return self._built_in("value")
        try:
            types = types_of(kept)
        except (Conflict, TypeError) as error:
            refuse(place, "type", str(error))
        makers = {"object": self._object, "array": self._array, "string": self._string}
        makers |= {"integer": self._number, "number": self._number}
        names = []
        for type_ in types:
            plain = type_ not in makers or not KEYWORDS[type_] & kept.keys()
            names.append(self._built_in(type_) if plain else makers[type_]({**kept, "type": type_}, place))
        return names[0] if len(names) == 1 else self._rule(" | ".join(names))

    def _union(self, schema: Schema, place: Place) -> str:
        if "anyOf" in schema and "oneOf" in schema:
            refuse(place, "oneOf", "it stands next to anyOf")
        keyword = "anyOf" if "anyOf" in schema else "oneOf"
        branches = schema[keyword]
        if not isinstance(branches, list) or not 0 < len(branches) <= MAX_ENUM_VALUES:
            refuse(place, keyword, f"it is not a list of 1 to {MAX_ENUM_VALUES} schemas")
        rest = {key: value for key, value in schema.items() if key != keyword}
        if rest:
            branches = [{"allOf": [rest, branch]} for branch in branches]
        places = [place.at(keyword, index) for index in range(len(branches))]
        if keyword == "oneOf":
            self._check_apart([self._expanded(*pair) for pair in zip(branches, places, strict=True)], place)
        names = [self._visit(*pair) for pair in zip(branches, places, strict=True)]
        return self._rule(" | ".join(dict.fromkeys(names)))

    def _check_apart(self, branches: list[Schema], place: Place) -> None:
        for index, branch in enumerate(branches):
            for other in branches[:index]:
                try:
                    plain = apart(branch, other)
                except (Conflict, TypeError, AttributeError) as error:
                    refuse(place, "oneOf", f"a part of it is malformed: {error}")
                if not plain:
                    hint = "use anyOf, or give each a different type or a required property with its own const"
                    refuse(place, "oneOf", "two of its schemas may both fit one value", hint)

    def _constants(self, schema: Schema, place: Place) -> str:
        keyword = "const" if "const" in schema else "enum"
        extra = sorted(schema.keys() - {"const", "enum", "type"})
        if extra:
            refuse(place, extra[0], f"it cannot be enforced next to {keyword}")
        values = [schema["const"]] if "const" in schema else schema["enum"]
        if not isinstance(values, list) or len(values) > MAX_ENUM_VALUES:
            refuse(place, keyword, f"it is not a list of at most {MAX_ENUM_VALUES} values", "use fewer values")
        texts = dict.fromkeys(json.dumps(v, ensure_ascii=False) for v in values if self._fits(v, schema, place))
        if "const" in schema and "enum" in schema:
            if not isinstance(schema["enum"], list):
                refuse(place, "enum", "it is not a list")
            listed = [json.dumps(value, ensure_ascii=False) for value in schema["enum"]]
            texts = {text: None for text in texts if text in listed}
        if not texts:
            refuse(place, keyword, "it allows no value")
        return self._rule(" | ".join(literal(text) for text in texts))

    def _fits(self, value: object, schema: Schema, place: Place) -> bool:
        try:
            return "type" not in schema or any(is_type(value, type_) for type_ in types_of(schema))
        except (Conflict, TypeError) as error:
            refuse(place, "type", str(error))

    def _object(self, schema: Schema, place: Place) -> str:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        if not isinstance(properties, Mapping):
            refuse(place, "properties", "it is not an object")
        if not isinstance(required, list) or not all(isinstance(key, str) for key in required):
            refuse(place, "required", "it is not a list of names")
        more = schema.get("additionalProperties", not (properties or required) and "properties" not in schema)
        # A property that is required but not declared is one of the additional ones.
        undeclared = schema.get("additionalProperties", True)
        properties = {**properties, **{key: undeclared for key in required if key not in properties}}
        if len(properties) > MAX_PROPERTIES:
            refuse(place, "properties", f"there are more than {MAX_PROPERTIES}")
        place = replace(place, within=None)
        space = self._built_in("space")
        comma, colon = f'{space} "," {space}', f'{space} ":" {space}'
        members = [
            f"{literal(json.dumps(key, ensure_ascii=False))} {colon} {self._visit(value, place.at('properties', key))}"
            for key, value in properties.items()
        ]
        tail, first = "", ""
        if more is not False:
            if any(len(key) > _MAX_KEY_CHARS for key in properties):
                refuse(place, "additionalProperties", f"a declared name has more than {_MAX_KEY_CHARS} characters")
            key = self._rule(other_key(list(properties))) if properties else self._built_in("string")
            member = self._rule(f"{key} {colon} {self._visit(more, place.at('additionalProperties'))}")
            tail, first = self._rule(f"( {comma} {member} )*"), f"{member} ( {comma} {member} )*"
        empty = True
        for name, text in reversed(list(zip(properties, members, strict=True))):
            member = self._rule(text)
            if name in required:
                first, empty = f"{member} {tail}", False
                tail = self._rule(f"{comma} {member} {tail}")
            else:
                first = f"{member} {tail} | {self._rule(first)}" if first else f"{member} {tail}"
                tail = self._rule(f"( {comma} {member} )? {tail}")
        body = f"( ( {first} ) {space} ){'?' if empty else ''}" if first else ""
        return self._rule(f'"{{" {space} {body} "}}"')

    def _array(self, schema: Schema, place: Place) -> str:
        items, prefix = schema.get("items", True), schema.get("prefixItems", [])
        if isinstance(items, list) and not prefix:
            items, prefix = False, items
        if not isinstance(prefix, list) or len(prefix) > MAX_PROPERTIES:
            refuse(place, "prefixItems", f"it is not a list of at most {MAX_PROPERTIES} schemas")
        least, most = count(schema, "minItems", place) or 0, count(schema, "maxItems", place)
        if items is False:
            most = len(prefix) if most is None else min(most, len(prefix))
        if most is not None and least > most:
            refuse(place, "minItems", "there are more than the most that is allowed")
        space = self._built_in("space")
        place = replace(place, within=None)
        names = [self._visit(item, place.at("prefixItems", index)) for index, item in enumerate(prefix[:most])]
        least, most = max(0, least - len(names)), None if most is None else most - len(names)
        some = least > 0 or bool(names)
        rest = ""
        if most != 0 and not (names and "items" not in schema and not least):
            inner = replace(place.at("items"), repeats=place.repeats * max(1, most or least))
            item = self._visit(items, inner)
            if not names:
                names, least, most = [item], max(0, least - 1), None if most is None else most - 1
            rest = "" if most == 0 else self._rule(f'{space} "," {space} {item}') + times(least, most)
        if not names:
            return self._rule(f'"[" {space} "]"')
        comma = f' {space} "," {space} '
        return self._rule(
            f'"[" {space} ( {comma.join(names)} {rest} {space} ){"" if some else "?"} "]"', max(least, most or 0)
        )

    def _string(self, schema: Schema, place: Place) -> str:
        least, most = count(schema, "minLength", place) or 0, count(schema, "maxLength", place)
        kind, pattern = schema.get("format"), schema.get("pattern")
        kind = "uuid" if kind in ("uuid1", "uuid2", "uuid3", "uuid4", "uuid5") else kind
        enforced = kind if isinstance(kind, str) and kind in _FORMATS else None
        bounded = least > 0 or most is not None
        if bounded + (pattern is not None) + (enforced is not None) > 1:
            keyword = "pattern" if pattern is not None else "format"
            hint = "say the length in the pattern, or leave one of them out and check the answer yourself"
            refuse(place, keyword, "it cannot be enforced together with a length or a format", hint)
        if most is not None and least > most:
            refuse(place, "minLength", "it is more than maxLength")
        if pattern is not None:
            return self._pattern(pattern, place)
        if enforced:
            return self._built_in(enforced)
        if not bounded:
            return self._built_in("string")
        text = self._built_in("char") + times(least, most) if most != 0 else ""
        return self._rule(rf'"\"" {text} "\""', max(least, most or 0))

    def _pattern(self, pattern: object, place: Place) -> str:
        if not isinstance(pattern, str):
            refuse(place, "pattern", "it is not a text")
        try:
            text, repeats = gbnf_of_pattern(pattern)
        except ValueError as error:
            refuse(place, "pattern", str(error), "use a simpler pattern, or leave it out and check the answer yourself")
        if repeats * place.repeats > MAX_REPEATS:
            refuse(place, "pattern", f"it makes more than {MAX_REPEATS} repetitions, with those around it")
        self._built_in("char")
        return self._rule(text, repeats)

    def _number(self, schema: Schema, place: Place) -> str:
        low, high, with_low, with_high = None, None, True, True
        whole = schema["type"] == "integer"
        for keyword in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
            value = schema.get(keyword)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= _MAX_BOUND:
                refuse(place, keyword, "it is not a number, or too far from zero")
            lower, within = keyword.endswith("inimum"), not keyword.startswith("exclusive")
            if whole and not within:
                value, within = (math.floor(value) + 1 if lower else math.ceil(value) - 1), True
            elif whole:
                value = math.ceil(value) if lower else math.floor(value)
            if value != int(value):
                hint = "use whole bounds, or leave them out and check the answer yourself"
                refuse(place, keyword, "bounds of a number that are not whole cannot be enforced", hint)
            value = int(value)
            if lower and (low is None or (value, not within) > (low, not with_low)):
                low, with_low = value, within
            elif not lower and (high is None or (value, within) < (high, with_high)):
                high, with_high = value, within
        text = integer_range(low, high) if whole else number_range(low, high, with_low, with_high)
        if text is None:
            refuse(place, "minimum", "no number lies between the bounds")
        return self._rule(text)


def gbnf_of_json_schema(schema: Schema) -> str:
    """GBNF whose start rule is root; raises BadGrammar that names the keyword, its path and the reason."""
    check_values(schema, Place())
    try:
        size_bytes = len(json.dumps(schema, ensure_ascii=False, allow_nan=False).encode())
    except (ValueError, TypeError) as error:
        raise BadGrammar(f"the JSON schema is not JSON: {error}") from error
    if size_bytes > MAX_SCHEMA_BYTES:
        raise BadGrammar(f"the JSON schema is larger than {MAX_SCHEMA_BYTES >> 10} KiB", hint="ask for less at once")
    return _Converter(schema).convert()
