from __future__ import annotations

import tomllib
from typing import Any

import pytest

from lilliput.errors import BadFile
from lilliput.fit import QualityTable
from lilliput.shipped import shipped


def table() -> dict[str, Any]:
    return tomllib.loads(shipped("quality.toml").read_text())


def refused(data: dict[str, Any]) -> str:
    with pytest.raises(BadFile) as caught:
        QualityTable.from_mapping(data)
    return caught.value.message


def test_a_misspelled_key_is_named_with_the_near_one() -> None:
    data = table()
    data["types"]["Q4_K_M"]["kdl"] = 1.0
    assert refused(data) == "quality.toml: types.Q4_K_M has an unknown key 'kdl', did you mean kld?"
    assert "unknown key 'more'" in refused(table() | {"more": 1})


@pytest.mark.parametrize("value", ["0.1", True, -1, float("nan"), float("inf")])
def test_a_number_must_be_one(value: object) -> None:
    data = table()
    data["types"]["Q4_K_M"]["kld"] = value
    assert "types.Q4_K_M.kld is no number" in refused(data)


def test_every_row_names_its_source_or_the_type_it_follows() -> None:
    data = table()
    data["types"]["Q4_K_M"]["source"] = "hearsay"
    assert "types.Q4_K_M.source is not one of [sources]" in refused(data)
    data = table()
    data["types"]["Q4_K_L"]["as"] = "Q4_K_XL"
    assert "types.Q4_K_L is as 'Q4_K_XL', which has no numbers of its own" in refused(data)


def test_the_curve_must_fall_and_name_types_with_numbers() -> None:
    assert "not in order at 'Q5_K_M'" in refused(table() | {"curve": ["Q6_K", "Q5_K_M"]})
    assert "'MXFP4', which lacks numbers" in refused(table() | {"curve": ["Q2_K", "MXFP4"]})
    assert "curve is not a list" in refused(table() | {"curve": "Q2_K"})


@pytest.mark.parametrize("pairs", [3, [[0, 1]], [[0, 1], [1]], [[0, 1], [0.1, "x"]]])
def test_the_agreement_must_be_a_list_of_pairs(pairs: object) -> None:
    assert "top1_by_kld is not a list of pairs" in refused(table() | {"top1_by_kld": pairs})


def test_the_agreement_must_fall_as_the_loss_rises() -> None:
    assert "not in order" in refused(table() | {"top1_by_kld": [[0.0, 0.5], [1.0, 0.6]]})


def test_tables_and_lists_must_be_such() -> None:
    assert "types is not a table" in refused(table() | {"types": 1})
    assert "sources holds something that is no text" in refused(table() | {"sources": {"plain": 1}})
    data = table()
    data["types"]["MXFP4"]["native"] = "gpt-oss"
    assert "types.MXFP4.native is not a list" in refused(data)
    data = table()
    del data["kv"]["types"]["q8_0"]
    assert "kv.types lacks q8_0" in refused(data)
