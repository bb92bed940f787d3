"""The tensor types of ggml with their block sizes, and the names of a file's overall quantization."""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType


class GgmlType(Enum):
    """A tensor element type: ``type_id`` in files; ``block_elements`` elements take ``block_bytes`` bytes.

    Ids and sizes are those of ggml's own type table. ``GGML_TYPES`` finds a type by its id.
    """

    def __init__(self, type_id: int, block_elements: int, block_bytes: int) -> None:
        self.type_id = type_id
        self.block_elements = block_elements
        self.block_bytes = block_bytes

    F32 = 0, 1, 4
    F16 = 1, 1, 2
    Q4_0 = 2, 32, 18
    Q4_1 = 3, 32, 20
    Q5_0 = 6, 32, 22
    Q5_1 = 7, 32, 24
    Q8_0 = 8, 32, 34
    Q8_1 = 9, 32, 36
    Q2_K = 10, 256, 84
    Q3_K = 11, 256, 110
    Q4_K = 12, 256, 144
    Q5_K = 13, 256, 176
    Q6_K = 14, 256, 210
    Q8_K = 15, 256, 292
    IQ2_XXS = 16, 256, 66
    IQ2_XS = 17, 256, 74
    IQ3_XXS = 18, 256, 98
    IQ1_S = 19, 256, 50
    IQ4_NL = 20, 32, 18
    IQ3_S = 21, 256, 110
    IQ2_S = 22, 256, 82
    IQ4_XS = 23, 256, 136
    I8 = 24, 1, 1
    I16 = 25, 1, 2
    I32 = 26, 1, 4
    I64 = 27, 1, 8
    F64 = 28, 1, 8
    IQ1_M = 29, 256, 56
    BF16 = 30, 1, 2
    TQ1_0 = 34, 256, 54
    TQ2_0 = 35, 256, 66
    MXFP4 = 39, 32, 17
    NVFP4 = 40, 64, 36
    Q1_0 = 41, 128, 18
    Q2_0 = 42, 64, 18

    @property
    def bits_per_element(self) -> float:
        """Stored bits for one element, scales included."""
        return 8 * self.block_bytes / self.block_elements


GGML_TYPES = MappingProxyType({member.type_id: member for member in GgmlType})
"""Type id in the file -> type."""

REMOVED_TYPES = MappingProxyType(
    {
        4: "Q4_2",
        5: "Q4_3",
        31: "Q4_0_4_4",
        32: "Q4_0_4_8",
        33: "Q4_0_8_8",
        36: "IQ4_NL_4_4",
        37: "IQ4_NL_4_8",
        38: "IQ4_NL_8_8",
    }
)
"""Type ids that old files carry and llama.cpp has stopped reading."""

FILE_TYPES = MappingProxyType(
    {
        0: "F32",
        1: "F16",
        2: "Q4_0",
        3: "Q4_1",
        7: "Q8_0",
        8: "Q5_0",
        9: "Q5_1",
        10: "Q2_K",
        11: "Q3_K_S",
        12: "Q3_K_M",
        13: "Q3_K_L",
        14: "Q4_K_S",
        15: "Q4_K_M",
        16: "Q5_K_S",
        17: "Q5_K_M",
        18: "Q6_K",
        19: "IQ2_XXS",
        20: "IQ2_XS",
        21: "Q2_K_S",
        22: "IQ3_XS",
        23: "IQ3_XXS",
        24: "IQ1_S",
        25: "IQ4_NL",
        26: "IQ3_S",
        27: "IQ3_M",
        28: "IQ2_S",
        29: "IQ2_M",
        30: "IQ4_XS",
        31: "IQ1_M",
        32: "BF16",
        33: "Q4_0_4_4",
        34: "Q4_0_4_8",
        35: "Q4_0_8_8",
        36: "TQ1_0",
        37: "TQ2_0",
        38: "MXFP4_MOE",
        39: "NVFP4",
        40: "Q1_0",
        41: "Q2_0",
    }
)
"""``general.file_type`` -> the label of the mixture, as llama.cpp numbers them."""

_GUESSED_FLAG = 1024


def file_type_label(file_type: int) -> str | None:
    """``15`` -> ``"Q4_K_M"``, None for a number without a meaning; the flag that says "guessed" is passed over."""
    if file_type < 0:
        return None
    return FILE_TYPES.get(file_type & ~_GUESSED_FLAG)
