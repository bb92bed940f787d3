from __future__ import annotations

import tomllib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lilliput.errors import InvalidRequest
from lilliput.fit import KV_TYPES, Quality, QualityTable, combine
from lilliput.gguf import FILE_TYPES, GGML_TYPES
from lilliput.shipped import shipped

TABLE = QualityTable.from_mapping(tomllib.loads(shipped("quality.toml").read_text()))

LADDER = ["Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "Q8_0", "F16"]
I_LADDER = ["IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "IQ3_S", "IQ3_M", "IQ4_XS"]
I_LADDER += ["IQ4_NL"]
PUBLISHED = sorted({*LADDER, *I_LADDER, "Q2_K_S", "Q4_0", "Q4_1", "Q5_0", "Q5_1"})

# Median KLD of Mistral 7B by type, another model measured by other people (Artefact2's gist, 2024-02-26).
MISTRAL = {
    "Q6_K": 0.0032,
    "Q5_K_M": 0.0043,
    "Q5_K_S": 0.0045,
    "Q4_K_M": 0.0075,
    "Q4_K_S": 0.0083,
    "IQ4_NL": 0.0085,
    "IQ4_XS": 0.0088,
    "Q3_K_L": 0.0152,
    "Q3_K_M": 0.0171,
    "IQ3_M": 0.0186,
    "IQ3_S": 0.0205,
    "Q3_K_S": 0.0304,
    "IQ3_XXS": 0.0330,
    "Q2_K": 0.0588,
    "IQ2_M": 0.0702,
    "Q2_K_S": 0.0829,
    "IQ2_S": 0.0949,
    "IQ2_XS": 0.1146,
    "IQ2_XXS": 0.1751,
    "IQ1_S": 0.5495,
}


def kld(quantization: str) -> float:
    found = TABLE.of(quantization).kld
    assert found is not None
    return found


@pytest.mark.parametrize("ladder", [LADDER, I_LADDER])
def test_more_bits_in_one_kind_of_type_lose_less(ladder: list[str]) -> None:
    found = [TABLE.of(name) for name in ladder]
    for worse, better in pairwise(found):
        assert (worse.bits_per_weight or 0) < (better.bits_per_weight or 0)
        assert (worse.kld or 0) > (better.kld or 0)
        assert (worse.dppl_percent or 0) > (better.dppl_percent or 0)
    assert [TABLE.loss(name) for name in ladder] == sorted((TABLE.loss(name) for name in ladder), reverse=True)


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        ("Q3_K_S", "IQ3_XXS"),
        ("Q4_0", "IQ4_XS"),
        ("Q4_1", "Q4_K_S"),
        ("IQ4_XS", "Q4_K_S"),
        ("Q5_1", "Q5_K_S"),
        ("Q5_0", "Q5_1"),
        ("Q2_K_S", "Q2_K"),
        ("Q2_K", "UD-Q2_K_XL"),
        ("Q3_K_M", "UD-Q3_K_XL"),
        ("Q4_K_M", "UD-Q4_K_XL"),
        ("UD-Q4_K_XL", "Q5_K_S"),
        ("IQ2_XXS", "UD-IQ2_XXS"),
        ("UD-IQ1_S", "IQ1_M"),
        ("UD-IQ1_M", "UD-IQ2_XXS"),
        ("UD-TQ1_0", "UD-IQ1_S"),
        ("Q3_K_L", "MXFP4_MOE"),
        ("Q1_0", "IQ1_S"),
    ],
)
def test_legacy_importance_and_dynamic_types_are_in_their_places(worse: str, better: str) -> None:
    assert TABLE.loss(worse) > TABLE.loss(better)


def test_the_order_agrees_with_another_model_measured_by_others_wherever_that_one_is_clear() -> None:
    for one, first in MISTRAL.items():
        for other, second in MISTRAL.items():
            if first > 1.25 * second:
                assert TABLE.loss(one) > TABLE.loss(other), (one, other)


def test_the_published_numbers_are_quoted_with_model_and_source() -> None:
    found = TABLE.of("Q4_K_M")
    assert (found.kld, found.dppl_percent, found.bits_per_weight) == (0.028152, 2.43, 4.8944)
    assert found.top1_agreement == pytest.approx(0.923, abs=0.002)
    assert found.source == (
        "prior by type: Llama 3 8B, Wikitext-2, importance matrix (llama.cpp tools/perplexity/README.md), "
        "agreement estimated from the KLD; 0.0313 without the matrix"
    )
    assert TABLE.of("Q8_0").top1_agreement == 0.97674
    assert "estimated" not in TABLE.of("Q8_0").source
    assert TABLE.of("IQ1_S").top1_agreement is None
    for name in PUBLISHED:
        assert TABLE.of(name).source
        assert not TABLE.of(name).measured


@pytest.mark.parametrize("name", sorted({*FILE_TYPES.values(), *(one.name for one in GGML_TYPES.values())}))
def test_every_type_of_llama_cpp_has_a_place(name: str) -> None:
    assert 0 <= TABLE.loss(name) < 10
    assert TABLE.of(name).source


def test_full_precision_loses_nothing_and_keeps_its_bits() -> None:
    for name, bits in (("BF16", 16), ("F16", 16), ("F32", 32)):
        found = TABLE.of(name)
        assert (found.kld, found.dppl_percent, found.top1_agreement, found.bits_per_weight) == (0, 0, 1, bits)
    assert "BF16" in TABLE.of("F16").source


@pytest.mark.parametrize(
    ("name", "base"),
    [("Q4_K_L", "Q4_K_M"), ("Q4_K_XL", "Q4_K_M"), ("Q3_K_XL", "Q3_K_L"), ("Q6_K_L", "Q6_K"), ("Q2_K_L", "Q2_K")],
)
def test_larger_mixtures_have_the_numbers_of_their_base_and_say_so(name: str, base: str) -> None:
    assert kld(name) == kld(base)
    assert f"no worse than {base}" in TABLE.of(name).source or "no worse than it" in TABLE.of(name).source
    assert (TABLE.of(name).bits_per_weight or 0) > (TABLE.of(base).bits_per_weight or 0)


def test_dynamic_types_quote_their_own_rows_and_else_their_base() -> None:
    assert kld("UD-Q4_K_XL") == 0.023701
    assert "Gemma 3 27B" in TABLE.of("UD-Q4_K_XL").source
    assert kld("UD-Q5_K_XL") == kld("Q5_K_M")
    assert "none are published for the dynamic mixture" in TABLE.of("UD-Q5_K_XL").source
    assert kld("UD-IQ2_M") == pytest.approx(0.972 * kld("IQ2_M"))
    assert TABLE.of("UD-IQ2_M").dppl_percent is None
    assert "0.258" in TABLE.of("UD-IQ2_M").source


def test_repacked_types_lose_what_their_plain_ones_do() -> None:
    assert kld("Q4_0_4_4") == kld("Q4_0")
    assert kld("IQ4_NL_4_4") == kld("IQ4_NL")
    assert kld("Q4_K_M_R4") == kld("Q4_K_M")


def test_types_that_models_are_trained_in_are_the_original_there_and_unknown_elsewhere() -> None:
    assert TABLE.of("MXFP4_MOE", architecture="gpt-oss").kld == 0
    assert TABLE.loss("MXFP4", architecture="gpt_oss") == 0
    assert TABLE.loss("TQ2_0", architecture="bitnet") == 0
    elsewhere = TABLE.of("MXFP4_MOE", architecture="qwen3moe")
    assert elsewhere.kld is None
    assert "no loss is published" in elsewhere.source
    assert TABLE.loss("Q3_K_M") > TABLE.loss("MXFP4_MOE", architecture="qwen3moe") > TABLE.loss("Q4_K_S")
    assert TABLE.loss("TQ1_0") > TABLE.loss("TQ2_0") > TABLE.loss("IQ2_XXS")


def test_an_unknown_type_is_placed_by_its_bits_and_labelled() -> None:
    found = TABLE.of("Q7_K_NEW", file_bits_per_weight=7.0)
    assert TABLE.loss("Q6_K") > (found.kld or 0) > TABLE.loss("Q8_0")
    assert "interpolated by its bits per weight (7.00)" in found.source
    named = TABLE.of("IQ5_KS")
    assert named.bits_per_weight == 5
    assert "the bits in its name" in named.source
    nothing = TABLE.of(None)
    assert (nothing.kld, nothing.bits_per_weight) == (None, None)
    assert TABLE.loss(None) == TABLE.loss("IQ1_S")
    assert TABLE.loss(None, 16.5) == 0


@given(st.floats(0.5, 40), st.floats(0.5, 40))
def test_the_curve_never_gives_more_bits_a_greater_loss(one: float, other: float) -> None:
    fewer, more = sorted((one, other))
    assert TABLE.loss(None, fewer) >= TABLE.loss(None, more) >= 0


@given(st.sampled_from(PUBLISHED))
def test_the_curve_passes_through_its_types_or_near_the_others(name: str) -> None:
    loss = TABLE.loss(None, TABLE.of(name).bits_per_weight)
    assert loss == pytest.approx(TABLE.loss(name), rel=0.75)


def test_a_file_of_odd_size_keeps_the_prior_of_its_type_and_says_so() -> None:
    odd = TABLE.of("Q4_K_M", file_bits_per_weight=6.3)
    assert (odd.kld, odd.bits_per_weight) == (kld("Q4_K_M"), 6.3)
    assert "the file has 6.3 bits per weight instead of about 4.9" in odd.source
    assert "instead of" not in TABLE.of("Q4_K_M", file_bits_per_weight=5.0).source
    assert TABLE.loss("Q4_K_M", 6.3) == TABLE.loss("Q4_K_M")


def test_what_was_measured_on_the_file_replaces_the_prior() -> None:
    mine = Quality(0.051, 4.0, 0.9, 4.9, "measured here on this file", measured=True)
    assert TABLE.of("Q4_K_M", file_bits_per_weight=4.9, measured=mine) is mine


def test_a_cache_costs_more_the_fewer_bits_it_has_in_every_family() -> None:
    order = ["f16", "q8_0", "q5_1", "q5_0", "q4_1", "iq4_nl", "q4_0"]
    for architecture in (None, "llama", "gemma4", "gpt-oss", "qwen3"):
        costs = [TABLE.of_kv(name, architecture).kld for name in order]
        assert None not in costs
        assert costs == sorted(costs, key=lambda cost: cost or 0)
        assert costs[0] == 0
    for name in KV_TYPES:
        assert TABLE.of_kv(name).source


def test_families_that_bear_a_quantized_cache_badly_or_well_have_their_own_figures() -> None:
    assert TABLE.of_kv("q8_0", "llama").kld == 0.00098
    assert TABLE.of_kv("q4_0", "llama") == TABLE.of_kv("q4_0")
    assert TABLE.of_kv("Q8_0", "gemma4").kld == 0.377
    assert "0.108 on the dense 31B" in TABLE.of_kv("q8_0", "gemma4").source
    assert TABLE.of_kv("q4_0", "gemma4").top1_agreement == 0.68
    scaled = TABLE.of_kv("q4_0", "gpt-oss")
    assert scaled.kld == pytest.approx(0.117 * 0.055 / 0.04)
    assert "times 1.4 for gpt-oss" in scaled.source
    assert TABLE.of_kv("q8_0", "an-architecture-of-tomorrow").kld == 0.04


def test_an_unknown_cache_type_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match="q3_k") as caught:
        TABLE.of_kv("q3_k")
    assert caught.value.param == "kv_type"
    assert "iq4_nl" in (caught.value.hint or "")


def test_the_losses_of_weights_and_cache_are_added_and_the_approximation_is_named() -> None:
    variant = TABLE.of("Q4_K_M")
    assert combine(variant, TABLE.of_kv("f16")) is variant
    both = combine(variant, TABLE.of_kv("q8_0"))
    assert both.kld == pytest.approx(0.068152)
    assert both.dppl_percent is None
    assert both.top1_agreement is None
    assert "first-order approximation" in both.source
    assert not both.measured
    known = Quality(0.1, 10.0, 0.9, 8.5, "measured", measured=True)
    twice = combine(known, known)
    assert (twice.kld, twice.measured) == (0.2, True)
    assert twice.dppl_percent == pytest.approx(21.0)
    assert twice.top1_agreement == pytest.approx(0.8)
    assert combine(TABLE.of("MXFP4"), known).kld is None
