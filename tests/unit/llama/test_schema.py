from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from lilliput.errors import BadGrammar
from lilliput.llama.grammar import Grammar, gbnf_of_schema
from lilliput.llama.model import Model

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=4,
)
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def accepts(model: Model, schema: dict[str, Any] | str, text: str) -> bool:
    """Whether the grammar of the schema allows exactly this whole text."""
    with Grammar(model, schema if isinstance(schema, str) else gbnf_of_schema(schema)) as grammar:
        for token in model.tokenize(text, add_special=False, parse_special=False):
            if not grammar.allows(token):
                return False
            grammar.accept(token)
        return grammar.allows(model.end_tokens[0])


def spells(model: Model, text: str) -> bool:
    """Whether the vocabulary has all the bytes of the text; small ones lack some of rare characters."""
    tokens = model.tokenize(text, add_special=False, parse_special=False)
    return b"".join(model.piece(token) for token in tokens) == text.encode()


def check(model: Model, schema: dict[str, Any], good: list[Any], bad: list[Any]) -> None:
    gbnf = gbnf_of_schema(schema)
    assert [value for value in good if not accepts(model, gbnf, json.dumps(value, ensure_ascii=False))] == []
    assert [value for value in bad if accepts(model, gbnf, json.dumps(value, ensure_ascii=False))] == []


@FEW
@given(value=VALUES)
def test_a_constant_allows_exactly_its_json_text(model: Model, value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assume(spells(model, text))
    assert accepts(model, {"const": value}, text)
    assert not accepts(model, {"const": value}, text + "0")


@FEW
@given(values=st.lists(TEXTS, min_size=2, max_size=4, unique=True))
def test_an_enum_allows_each_value_and_no_other(model: Model, values: list[str]) -> None:
    assume(spells(model, "".join(values)))
    check(model, {"enum": values[1:], "type": "string"}, values[1:], values[:1])


@settings(FEW, max_examples=30)
@given(bounds=st.tuples(st.integers(-3000, 3000), st.integers(-3000, 3000)), others=st.lists(st.integers(-4000, 4000)))
def test_bounds_of_integers_are_enforced(model: Model, bounds: tuple[int, int], others: list[int]) -> None:
    low, high = sorted(bounds)
    near = {low - 1, low, low + 1, high - 1, high, high + 1, *others[:6]}
    good = [value for value in near if low <= value <= high]
    check(model, {"type": "integer", "minimum": low, "maximum": high}, good, [*near.difference(good)])


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"const": "a\\b"}, ["a\\b"], ["a\bb"]),
        ({"enum": ["C:\\d", "\n", '"']}, ["C:\\d", "\n", '"'], ["d"]),
        ({"type": "integer", "minimum": 0}, [0, 7, 10**12], [-1]),
        ({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 2.5}, [1, 2], [0, 3, -1]),
        ({"type": "number", "minimum": 0, "maximum": 1}, [0, 0.5, 1, 1.0, 0.001], [-0.5, 1.5, 2, -1]),
        ({"type": "number", "exclusiveMinimum": 0}, [0.5, 1, 12.25], [0, 0.0, -1]),
        ({"type": "number", "minimum": -2, "exclusiveMaximum": 0}, [-2, -0.5, -1.75], [0, -2.5, 1]),
        ({"type": "string", "minLength": 1, "maxLength": 3}, ["a", "é\n", '"""', "😀😀😀"], ["", "abcd"]),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2}, [[1], [1, 2]], [[], [1, 2, 3]]),
        ({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "null"}]}, [[1, None]], [[None, 1]]),
        ({"type": "array", "items": {"type": "null"}, "maxItems": 0}, [[]], [[None]]),
        ({"required": ["a"], "type": "object"}, [{"a": 1}], [{}, {"b": 1}]),
        ({"type": ["string", "null"]}, ["x", None], [1]),
        ({"type": ["string", "null"], "enum": ["x", None, 1]}, ["x", None], [1]),
        ({}, [{}, [], "x", 1.5, None, {"a": [1]}], []),
        ({"type": "object"}, [{}, {"a": {"b": 1}}], [[], 1]),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, [{}, {"a": 1, "b": 2}], [{"a": "x"}]),
        (
            {"properties": {"ab": {"type": "integer"}}, "additionalProperties": {"type": "string"}},
            [{"ab": 1}, {"ab": 1, "a": "x"}, {"abc": "x"}, {}],
            [{"ab": "x"}, {"ab": 1, "ac": 2}],
        ),
        (
            {"allOf": [{"properties": {"a": {"type": "null"}}, "required": ["a"]}, {"properties": {"b": {}}}]},
            [{"a": None}, {"a": None, "b": 2}],
            [{"b": 1}, {"a": 1}],
        ),
        ({"anyOf": [{"minimum": 3}, {"maximum": -3}], "type": "integer"}, [3, -3], [0]),
        ({"type": "string", "format": "date"}, ["2024-02-29", "2023-12-31"], ["2023-02-29", "2024-04-31", "x"]),
        ({"type": "string", "format": "date-time"}, ["2024-02-29T10:00:00Z"], ["2024-02-29", "2024-02-29T25:00:00Z"]),
        ({"type": "string", "format": "uuid"}, ["123e4567-e89b-12d3-a456-426614174000"], ["123e4567"]),
        ({"type": "string", "format": "email"}, ["a@b"], [1]),
        ({"properties": {"up": {"$ref": "#"}}, "additionalProperties": False}, [{}, {"up": {"up": {}}}], [{"up": 1}]),
    ],
)
def test_keywords_are_enforced(model: Model, schema: dict[str, Any], good: list[Any], bad: list[Any]) -> None:
    check(model, schema, good, bad)


@pytest.mark.parametrize(
    "pattern",
    [
        *(r"^\d+$", r"^\w+$", r"^\s$", r"^a\.b$", r"^\d{3}$", r"\d+", "no-anchors", r"^(a|bc)*$", r'^["\\]{1,2}$'),
        *(
            "^a|b$",
            r"^[^a-c]+$",
            r"^.$",
            r"^[\d\-x]$",
            r"^\S\W\D$",
            r"^(?:\+\d{1,3} )?\d{3}-\d{4}$",
            r"^\u00e9?$",
            r"^\n{1,2}$",
        ),
        *("^$", r"^a+?b$"),
    ],
)
def test_a_pattern_allows_what_it_matches(model: Model, pattern: str) -> None:
    texts = [
        *("", "a", "b", "ab", "bc", "abc", "a.b", "axb", "1", "123", "12", " ", "\n", '"', "\\", '"\\', "-", "x", "é")
    ]
    texts += ["no-anchors", "see no-anchors!", "555-1234", "+49 555-1234", "a1", "abca", "ad", "x!y", "_", "aab", "😀"]
    good = [text for text in texts if re.search(pattern.replace("$", r"\Z"), text, re.ASCII)]
    check(model, {"type": "string", "pattern": pattern}, good, [text for text in texts if text not in good])


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"properties": {"a": schema}}
    return schema


LONG = {"type": "array", "maxItems": 100, "items": {"type": "string", "maxLength": 100}}


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "string", "pattern": "^\ud800$"}, "surrogate"),
        ({"const": "a\0b"}, "NUL"),
        ({"properties": {"a\0": {}}}, "NUL"),
        ({"type": "string", "pattern": "^[z-a]$"}, "pattern at #: .*wrong way"),
        ({"type": "string", "pattern": r"^\ud800$"}, "surrogate"),
        ({"type": "string", "pattern": "^a{99999999}$"}, "pattern at #: .*2000"),
        ({"type": "string", "pattern": "^(a{100}){100}$"}, "pattern at #: .*2000"),
        ({"type": "string", "pattern": "^(a*)*$"}, "may be empty"),
        ({"type": "string", "pattern": "^(a$"}, "pattern at #"),
        ({"type": "string", "pattern": "^a)$"}, "pattern at #"),
        ({"type": "string", "pattern": "^[a$"}, "pattern at #"),
        ({"type": "string", "pattern": r"^(?=a)b$"}, "group"),
        ({"type": "string", "pattern": r"^\bb$"}, "escape"),
        ({"type": "string", "pattern": "(" * 500 + ")" * 500}, "deep"),
        ({"type": "string", "pattern": "a" * 1025}, "1024"),
        ({"type": "string", "pattern": "^" + "a?" * 500 + "$"}, "too many"),
        ({"type": "string", "pattern": r"^(\w{1,999})(\w{1,999})$"}, "too many"),
        ({"properties": {f"{i}": {"type": "string", "maxLength": 2000 - i} for i in range(300)}}, "in all"),
        ({"type": "string", "maxLength": 100000000}, "maxLength at #: .*2000"),
        ({"type": "array", "minItems": 5000}, "minItems"),
        ({"type": "array", "maxItems": 1e300}, "maxItems"),
        (LONG, "maxLength at #/items: "),
        ({"enum": [str(index) for index in range(20000)]}, "KiB"),
        ({"enum": list(range(513))}, "enum at #: .*512"),
        ({"enum": []}, "enum"),
        ({"enum": 1, "const": 1}, "enum"),
        ({"const": "x" * 70000}, "64 KiB"),
        ({"const": float("nan")}, "not JSON"),
        ({"properties": {f"{index}": {"enum": ["\n" * 100]} for index in range(600)}}, "properties|KiB"),
        (nested(100), "deep"),
        (nested(2000), "deep"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "allOf at #"),
        ({"$ref": "#"}, "back to itself"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/a"}]}}}, "back to itself"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}}, "back to itself"),
        ({"$ref": "https://example.com/a"}, r"\$ref"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "minimum"),
        ({"type": "number", "minimum": 0.5}, "minimum"),
        ({"type": "string", "minLength": 1, "pattern": "^a$"}, "pattern at #"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf at #"),
        ({"properties": {"a": {"type": "array", "uniqueItems": True}}}, "uniqueItems at #/properties/a"),
        ({"type": "object", "required": ["a"], "additionalProperties": False}, "#/properties/a"),
        ({"properties": {"a": False}}, "#/properties/a"),
        *(({word: 1}, word) for word in ["multipleOf", "not", "if", "patternProperties", "contains", "minProperties"]),
    ],
)
def test_what_cannot_be_enforced_is_refused_by_name(schema: dict[str, Any], says: str) -> None:
    with pytest.raises(BadGrammar, match=says) as refused:
        gbnf_of_schema(schema)
    str(refused.value).encode()


class Node(BaseModel):
    value: int
    children: list[Node] = []


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(ge=0, le=9)


class Dog(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["dog"]
    name: str = Field(min_length=1, max_length=40, description="its name")


class Owner(BaseModel):
    pet: Cat | Dog = Field(discriminator="kind")
    other: Cat | Dog | None = None
    seen: datetime | None = None
    tags: dict[str, int] = {}
    pair: tuple[int, str] = (1, "a")
    scores: list[float] = Field(default=[], max_length=3)
    code: str = Field(default="A1", pattern=r"^[A-Z]\d+$")
    node: Node | None = None


def test_recursive_and_nested_pydantic_models_are_enforced(model: Model) -> None:
    leaf = {"value": 1, "children": []}
    check(
        model, Node.model_json_schema(), [leaf, {"value": -2, "children": [leaf]}], [{"children": []}, {"value": "x"}]
    )
    owner = Owner(pet=Cat(kind="cat", lives=9), tags={"a": 1}, scores=[1.5], node=Node(value=1))
    good = [owner.model_dump(), {"pet": {"kind": "dog", "name": "Rex"}, "seen": "2024-01-01T00:00:00Z"}]
    bad = [{"pet": {"kind": "cat", "lives": 10}}, {"pet": {"kind": "cow"}}, {}, {**good[0], "code": "a1"}]
    check(model, Owner.model_json_schema(), good, bad)


def test_white_space_between_tokens_is_allowed(model: Model) -> None:
    assert accepts(model, Node.model_json_schema(), json.dumps({"value": 1, "children": []}, indent=2))
    assert accepts(model, Node.model_json_schema(), '{"value":1,"children":[]}')


def test_the_largest_allowed_repetitions_and_wide_objects_compile(model: Model) -> None:
    wide = {"properties": {f"p{index}": {"type": "string", "maxLength": 2000} for index in range(200)}}
    check(model, wide, [{"p3": "x", "p199": "y" * 50}], [{"p3": 1}])
    check(model, {"type": "array", "maxItems": 2000}, [[], [1, "a"]], [{}])
    check(model, {"type": "string", "minLength": 2000}, [], ["x"])
    check(model, {"type": "string", "pattern": "^(a{40}){50}$"}, ["a" * 2000], ["a" * 1999])
