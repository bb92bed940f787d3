from __future__ import annotations

import pytest

from lilliput.fit.mixes import type_mix
from lilliput.gguf import FILE_TYPES, GgmlType


@pytest.mark.parametrize("name", sorted({*FILE_TYPES.values(), "UD-Q4_K_XL", "Q3_K_XL", "Q6_K_L", "Q8_K_XL"}))
def test_a_mixture_is_made_of_real_types_and_adds_up_to_one(name: str) -> None:
    mix = type_mix(name)
    if mix is not None:
        assert set(mix) <= set(GgmlType.__members__)
        assert sum(mix.values()) == pytest.approx(1, abs=1e-9)
        assert min(mix.values()) > 0


@pytest.mark.parametrize("name", ["Q4_K_M", "Q5_K_S", "Q3_K_L", "IQ4_XS", "IQ3_M", "MXFP4_MOE"])
def test_the_usual_mixtures_are_known_and_mostly_what_their_name_says(name: str) -> None:
    mix = type_mix(name)
    assert mix is not None
    main = max(mix, key=lambda kind: mix[kind])
    assert main[:3] == name[:3]
    assert len(mix) > 1


@pytest.mark.parametrize("name", ["F16", "BF16", "Q8_0", "Q4_0", "IQ2_XXS", "Q6_K"])
def test_a_plain_type_is_all_of_its_variant(name: str) -> None:
    assert type_mix(name) == {name: 1.0}


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("UD-Q4_K_M", "Q4_K_M"),
        ("UD-Q4_K_XL", "Q4_K_M"),
        ("Q4_K_L", "Q4_K_M"),
        ("Q5_K_L", "Q5_K_M"),
        ("Q3_K_XL", "Q3_K_M"),
        ("UD-Q2_K_XL", "Q2_K"),
        ("Q6_K_L", "Q6_K"),
        ("UD-Q6_K_XL", "Q6_K"),
        ("UD-Q8_K_XL", "Q8_0"),
    ],
)
def test_makers_variants_count_as_the_mixture_that_they_refine(name: str, same: str) -> None:
    assert type_mix(name) == type_mix(same) is not None


@pytest.mark.parametrize("name", [None, "", "UD-", "Q4_0_4_4", "Q7_K_L", "none"])
def test_a_name_that_tells_nothing_has_no_mixture(name: str | None) -> None:
    assert type_mix(name) is None
