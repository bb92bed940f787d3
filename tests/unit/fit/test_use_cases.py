from __future__ import annotations

import tomllib
from typing import Any

import pytest

from lilliput.errors import BadFile, InvalidRequest
from lilliput.fit import QualityTable, UseCases, meets_floor
from lilliput.fit.use_cases import FLOOR_TOLERANCE
from lilliput.shipped import shipped

TABLE = QualityTable.from_mapping(tomllib.loads(shipped("quality.toml").read_text()))


def document() -> dict[str, Any]:
    return tomllib.loads(shipped("use_cases.toml").read_text())


CASES = UseCases.from_mapping(document())


def test_the_floors_are_those_of_the_policy() -> None:
    assert {case.name: case.floor for case in CASES.all} == {
        "high-stakes": "Q5_K_M",
        "general": "Q4_K_M",
        "creative": "Q4_K_M",
        "coding": "Q4_K_M",
        "bulk": "Q3_K_M",
        "experiment": "Q2_K",
    }
    assert CASES.get(None) is CASES.default is CASES.get("general")


@pytest.mark.parametrize("case", CASES.all, ids=lambda case: case.name)
def test_each_case_begins_at_or_above_its_floor_and_says_what_it_prefers(case: Any) -> None:
    assert meets_floor(TABLE, case.start, case)
    assert sorted(case.prefers) == ["context", "quality", "speed"]
    assert case.title
    assert case.description
    assert case.examples
    assert case.target_tokens_per_s > 0
    assert case.context_tokens >= 4096


@pytest.mark.parametrize(
    ("spoken", "name"),
    [
        ("legal", "high-stakes"),
        ("Medical", "high-stakes"),
        ("finance", "high-stakes"),
        ("High Stakes", "high-stakes"),
        ("high_stakes", "high-stakes"),
        ("CODE", "coding"),
        ("chat", "general"),
        ("summaries", "bulk"),
        ("translation", "bulk"),
    ],
)
def test_a_case_is_found_by_any_spelling_and_by_what_people_call_it(spoken: str, name: str) -> None:
    assert CASES.get(spoken).name == name


def test_an_unknown_case_is_refused_with_near_matches() -> None:
    with pytest.raises(InvalidRequest, match="'codding'") as caught:
        CASES.get("codding")
    assert caught.value.param == "use_case"
    assert (caught.value.hint or "").startswith("did you mean coding")
    with pytest.raises(InvalidRequest) as caught:
        CASES.get("quux")
    assert caught.value.hint == "use cases: high-stakes, general, creative, coding, bulk, experiment"


@pytest.mark.parametrize(
    ("name", "passes", "fails"),
    [
        (
            "high-stakes",
            ["Q5_K_M", "Q5_K_L", "UD-Q5_K_XL", "Q6_K", "Q8_0", "BF16"],
            ["Q5_K_S", "Q5_1", "Q4_K_M", "UD-Q4_K_XL"],
        ),
        (
            "general",
            ["Q4_K_M", "Q4_K_L", "UD-Q4_K_XL", "UD-Q4_K_M", "Q5_0", "Q5_K_S", "F16"],
            ["Q4_K_S", "IQ4_XS", "IQ4_NL", "Q4_1", "Q4_0", "Q3_K_L", "MXFP4", None],
        ),
        ("bulk", ["Q3_K_M", "Q3_K_L", "UD-Q3_K_XL", "IQ4_XS", "Q4_0"], ["Q3_K_S", "IQ3_M", "UD-Q2_K_XL"]),
        ("experiment", ["Q2_K", "IQ2_M", "Q3_K_S", "UD-Q2_K_XL", "IQ3_XXS"], ["Q2_K_S", "IQ2_XXS", "IQ1_M", "TQ1_0"]),
    ],
)
def test_a_floor_lets_pass_what_loses_no_more_whatever_its_name(
    name: str, passes: list[str], fails: list[str | None]
) -> None:
    case = CASES.get(name)
    assert [kind for kind in passes if not meets_floor(TABLE, kind, case)] == []
    assert [kind for kind in fails if meets_floor(TABLE, kind, case)] == []


def test_the_tolerance_admits_no_type_that_loses_more_on_any_floor() -> None:
    types = [kind for kind in document_types() if TABLE.of(kind).kld is not None]
    for case in CASES.all:
        for kind in types:
            assert meets_floor(TABLE, kind, case) is (TABLE.loss(kind) <= TABLE.loss(case.floor)), (kind, case.name)
    assert 0 < FLOOR_TOLERANCE < 0.05


def document_types() -> list[str]:
    return list(tomllib.loads(shipped("quality.toml").read_text())["types"])


def test_a_model_trained_in_its_type_meets_every_floor() -> None:
    for case in CASES.all:
        assert meets_floor(TABLE, "MXFP4", case, architecture="gpt-oss")
    assert not meets_floor(TABLE, "MXFP4", CASES.default, architecture="qwen3moe")


def test_an_unknown_type_is_judged_by_its_bits() -> None:
    assert meets_floor(TABLE, "Q5_NEW", CASES.default, file_bits_per_weight=5.5)
    assert not meets_floor(TABLE, "Q5_NEW", CASES.default, file_bits_per_weight=4.0)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("prefers", ["quality", "speed"], "prefers is not quality, speed and context"),
        ("prefers", "quality", "prefers is no list of texts"),
        ("floor", 4, "floor is no text"),
        ("target_tokens_per_s", 0, "target_tokens_per_s is no number above 0"),
        ("context_tokens", 8192.5, "context_tokens is no whole number above 0"),
        ("colour", "red", "unknown key 'colour'"),
    ],
)
def test_a_wrong_entry_is_named(key: str, value: object, says: str) -> None:
    data = document()
    data["coding"][key] = value
    with pytest.raises(BadFile, match=says):
        UseCases.from_mapping(data)


def test_names_must_be_whole_unique_and_the_default_one_of_them() -> None:
    data = document()
    data["coding"]["aliases"] = ["Chat"]
    with pytest.raises(BadFile, match="'Chat' would mean both general and coding"):
        UseCases.from_mapping(data)
    with pytest.raises(BadFile, match="default names no use case"):
        UseCases.from_mapping(document() | {"default": "other"})
    with pytest.raises(BadFile, match="coding is not a table"):
        UseCases.from_mapping(document() | {"coding": 1})
    data = document()
    del data["coding"]["floor"]
    with pytest.raises(BadFile, match="coding lacks floor"):
        UseCases.from_mapping(data)
