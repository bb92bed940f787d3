from __future__ import annotations

import gguf as reference
import pytest

from lilliput.gguf import FILE_TYPES, GGML_TYPES, GgmlType, file_type_label
from lilliput.gguf.types import REMOVED_TYPES

# The reference package counts this type, which no file contains, with 4-byte scales; ggml itself has 2-byte ones.
NEVER_IN_FILES = {"Q8_1"}


@pytest.mark.parametrize("theirs", list(reference.GGMLQuantizationType), ids=lambda theirs: str(theirs.name))
def test_every_type_of_the_reference_package_has_its_size(theirs: reference.GGMLQuantizationType) -> None:
    ours = GGML_TYPES[theirs.value]
    assert ours.name == theirs.name
    if ours.name not in NEVER_IN_FILES:
        assert (ours.block_elements, ours.block_bytes) == reference.GGML_QUANT_SIZES[theirs]


@pytest.mark.parametrize("theirs", list(reference.LlamaFileType), ids=lambda theirs: str(theirs.name))
def test_every_file_type_of_the_reference_package_has_its_label(theirs: reference.LlamaFileType) -> None:
    if theirs.name == "GUESSED":
        assert file_type_label(theirs.value) == "F32"
    else:
        assert file_type_label(theirs.value) == theirs.name.removeprefix("ALL_").removeprefix("MOSTLY_")


def test_a_type_is_found_by_its_number_and_a_removed_one_is_not() -> None:
    assert GGML_TYPES[12] is GgmlType.Q4_K
    assert len(GGML_TYPES) == len(GgmlType)
    assert not REMOVED_TYPES.keys() & GGML_TYPES.keys()


def test_unknown_file_types_have_no_label() -> None:
    assert [file_type_label(number) for number in (-1, 5, 42, 1023)] == [None] * 4
    assert len(set(FILE_TYPES.values())) == len(FILE_TYPES)


def test_bits_per_element_count_the_scales() -> None:
    assert GgmlType.Q4_K.bits_per_element == 4.5
    assert GgmlType.Q8_0.bits_per_element == 8.5
    assert GgmlType.F16.bits_per_element == 16
