"""Offers from headers that were read, from the usual mixtures, and from sizes alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.model_headers import Transformer, half, q4_0

from lilliput.fit import Repacking, copies_of, layout_of
from lilliput.gguf import GgmlType, Tensor, place_tensors
from lilliput.services.model_facts import ModelFacts, facts_of
from lilliput.services.variant_offers import EVERY_TYPE, Entry, mixes_to_ask, offer_of, tensor_types_of, would_be

MODEL = Transformer(vocabulary=32768)
FOURS = Repacking({"Q4_0": 8}, {"Q4_0": 1.0})


@pytest.fixture
def facts() -> ModelFacts:
    return facts_of([MODEL.header(half)], 0)


def mixture(kind: GgmlType) -> tuple[Tensor, ...]:
    """Every matrix of the model in one type."""
    tensors = MODEL.header(half).tensors
    return place_tensors((one.name, one.shape, kind if len(one.shape) > 1 else one.type) for one in tensors)


MIXES = {"Q8_0": mixture(GgmlType.Q8_0), "Q4_0": mixture(GgmlType.Q4_0)}


def size_of(facts: ModelFacts, kind: str) -> int:
    last = MIXES[kind][-1]
    return facts.header_bytes + last.offset_bytes + last.size_bytes


def test_only_mixtures_of_headers_that_were_not_read_are_asked_for(facts: ModelFacts) -> None:
    entries = [
        Entry("Q4_0", "Q4_0", (), 1, facts=facts),
        Entry("Q8_0", "Q8_0", (), 1),
        Entry("b", "Q8_0", (), 1),
        Entry("UD-Q4_K_XL", "UD-Q4_K_XL", (), 1),
        Entry("unknown", None, (), 1),
    ]
    assert mixes_to_ask(entries, every_type=False) == ("Q8_0",)
    assert mixes_to_ask(entries, every_type=True) == ("F16", *EVERY_TYPE)


def test_a_header_that_was_read_tells_its_own_layout(facts: ModelFacts) -> None:
    own = facts_of([MODEL.header(q4_0)], 0)
    offer = offer_of(Entry("Q4_0", "Q4_0", ("a",), own.file_bytes, facts=own), facts, MIXES)
    assert offer.layout == own.layout
    assert offer.layout_margin == 0
    assert offer.traffic == own.traffic
    assert offer.bits_per_weight == pytest.approx(8 * own.file_bytes / facts.elements)


def test_a_file_of_the_usual_size_has_the_usual_mixture(facts: ModelFacts) -> None:
    for factor in (1.0, 1.004, 0.996):
        size = round(size_of(facts, "Q8_0") * factor)
        offer = offer_of(Entry(f"Q8_0 {factor}", "Q8_0", (), size), facts, MIXES)
        usual = layout_of(MIXES["Q8_0"], MODEL.blocks)
        assert offer.layout == usual or factor < 1
        assert offer.layout_margin == (0 if factor == 1 else 0.005)
        assert offer.layout.total_bytes <= min(usual.total_bytes, size - facts.header_bytes)
        assert offer.layout.total_bytes == pytest.approx(usual.total_bytes, rel=0.005)
        assert offer.traffic is not None
        assert not offer.traffic.guessed


def test_a_file_of_another_size_or_unknown_type_is_scaled(facts: ModelFacts) -> None:
    usual = layout_of(MIXES["Q8_0"], MODEL.blocks)
    for name, kind, size in (("Q8_0", "Q8_0", round(size_of(facts, "Q8_0") * 1.1)), ("x", None, 5_000_000)):
        offer = offer_of(Entry(name, kind, (), size), facts, MIXES)
        assert offer.layout != usual
        assert offer.layout_margin == 0.15
        assert size - facts.header_bytes - 16 < offer.layout.total_bytes <= size - facts.header_bytes


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("token_embd.weight",), GgmlType.Q8_0),
        (("token_embd.weight", "output.weight"), GgmlType.Q5_K),
    ],
)
def test_a_file_of_exactly_the_size_with_other_ends_has_them(
    facts: ModelFacts, names: tuple[str, ...], kind: GgmlType
) -> None:
    mix = place_tensors((one.name, one.shape, kind if one.name in names else one.type) for one in MIXES["Q4_0"])
    size = facts.header_bytes + mix[-1].offset_bytes + mix[-1].size_bytes
    entry = Entry("Q4_0", "Q4_0", (), size)
    offer = offer_of(entry, facts, MIXES, FOURS)
    assert offer.layout == layout_of(mix, MODEL.blocks)
    assert offer.copies == copies_of((mix,), FOURS)
    assert offer.layout_margin == 0
    assert tensor_types_of(entry, facts, MIXES) == {"F32", "Q4_0", kind.name}
    off = offer_of(replace(entry, file_bytes=size + 32), facts, MIXES, FOURS)
    assert off.layout_margin == 0.15


def test_copies_of_what_is_scaled_are_in_proportion_to_the_usual_mixture_s_or_to_what_was_read(
    facts: ModelFacts,
) -> None:
    weights = size_of(facts, "Q4_0") - facts.header_bytes
    entry = Entry("Q4_0", "Q4_0", (), facts.header_bytes + 2 * weights)
    whole = copies_of((MIXES["Q4_0"],), FOURS)
    assert whole.copied_bytes
    assert offer_of(entry, facts, MIXES, FOURS).copies == whole.scaled(2, 1)
    assert tensor_types_of(entry, facts, MIXES) == {"F32", "Q4_0"}
    read = facts_of([MODEL.header(q4_0)], 0)
    entry = Entry("x", None, (), read.header_bytes + 3 * read.layout.total_bytes)
    assert offer_of(entry, read, {}, FOURS).copies == copies_of(read.parts, FOURS).scaled(3, 1)
    assert tensor_types_of(entry, read, {}) == read.header.tensor_types


def test_what_a_place_says_of_a_variant_is_kept_with_its_offer(facts: ModelFacts) -> None:
    entry = Entry("Q8_0", "Q8_0", ("a.gguf",), size_of(facts, "Q8_0"), problem="broken", exists=False)
    offer = offer_of(entry, facts, MIXES)
    assert (offer.files, offer.problem, offer.exists) == (("a.gguf",), "broken", False)
    again = offer_of(Entry("Q8_0", "Q8_0", ("b.gguf",), entry.file_bytes), facts, {})
    assert (again.files, again.problem, again.exists, again.layout) == (("b.gguf",), None, True, offer.layout)


def test_what_could_be_made_has_the_size_it_would_have(facts: ModelFacts) -> None:
    made = would_be([Entry("Q4_0", "Q4_0", (), 1)], facts, MIXES)
    assert [(one.name, one.exists, one.file_bytes) for one in made] == [("Q8_0", False, size_of(facts, "Q8_0"))]
    named_otherwise = [Entry("some/file", "Q8_0", (), 1)]
    assert [one.name for one in would_be(named_otherwise, facts, MIXES)] == ["Q4_0"]


def test_a_quantization_of_experts_alone_is_offered_where_there_are_any(facts: ModelFacts) -> None:
    of_experts = mixture(GgmlType.MXFP4)
    names = [one.name for one in would_be([], facts, {"MXFP4_MOE": of_experts})]
    assert names == ["MXFP4_MOE"]
    assert would_be([], facts, {"MXFP4_MOE": MIXES["Q8_0"]}) == ()
