"""The table of predicted and measured memory holds today: some of its rows, loaded again."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.accuracy.document import DOCUMENT, parse, render
from tests.accuracy.planned import VariantPlans
from tests.accuracy.rows import PARTS, Row, Sizes, load_row
from tests.accuracy.settings import LoadSetting, every_setting, some_settings
from tests.accuracy.variants import KINDS, Source, sources, variant_file
from tests.support.safe_rung import find_safe_rung

from lilliput.units import MIB

ROUNDING_BYTES = 0.011 * MIB
AGAIN = (LoadSetting(512, 1, "f16", "off"), LoadSetting(8192, 8, "q4_0", "auto"))
"""Loads with small micro-batches: seconds."""


def committed() -> dict[tuple[str, str, LoadSetting], Row]:
    return {(row.model, row.variant, row.setting): row for row in parse(DOCUMENT.read_text(encoding="utf-8"))}


def test_every_variant_is_in_the_table_and_the_source_files_at_every_setting() -> None:
    rows = committed()
    for source in sources():
        assert {kind for model, kind, _ in rows if model == source.name} == {*KINDS, source.original}
        assert {at for model, kind, at in rows if (model, kind) == (source.name, source.original)} == {*every_setting()}


def test_no_row_of_the_table_breaks_a_bound() -> None:
    for row in committed().values():
        for part in PARTS:
            assert (row.excess(part) or 0) <= 1, (row, part)


@pytest.mark.parametrize("source", sources(), ids=lambda source: source.name)
async def test_rows_that_are_loaded_again_agree(source: Source, tmp_path: Path) -> None:
    rung = await find_safe_rung()
    plans = VariantPlans(source, rung)
    tensors = await plans.learn([source.original])
    with variant_file(source, source.original, tensors[source.original], tmp_path) as path:
        for setting in AGAIN:
            row = await load_row(plans, source.name, source.original, path, setting, rung)
            for part in PARTS:
                assert (row.excess(part) or 0) <= 1, (row, part)
            old = committed()[source.name, source.original, setting]
            for part in ("kv", "compute"):
                assert getattr(row.predicted, part) == pytest.approx(getattr(old.predicted, part), abs=ROUNDING_BYTES)


def test_what_is_written_is_read_again() -> None:
    sizes = Sizes(100 * MIB, 2 * MIB, 3 * MIB, 150 * MIB)
    rows = [
        Row("a-model", "Q4_0", LoadSetting(512, 1, "f16", "on"), sizes, sizes),
        Row(
            "a-model",
            "IQ3_M",
            LoadSetting(8192, 8, "q4_0", "auto"),
            sizes,
            Sizes(90 * MIB, 2 * MIB, 3 * MIB, None),
        ),
    ]
    text = render(rows, [("Machine", "any")])
    assert parse(text) == rows
    assert "- Machine: any" in text
    assert "| weights | +10.00 | +11.11% |" in text


def test_settings_are_walked_through() -> None:
    every = every_setting()
    assert len(every) == 30
    assert {one for number in range(10) for one in some_settings(number, 3)} == {*every}
    assert not any(one.flash != "auto" and one.kv_type != "f16" for one in every)
