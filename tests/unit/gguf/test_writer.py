from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lilliput.gguf import BytesSource, GgmlType, place_tensors, read_header
from lilliput.gguf.writer import (
    ALIGNMENT,
    encode_header,
    encode_value,
    f32,
    text,
    text_array,
    truth,
    u32,
    u32_array,
)

SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "uint8": st.integers(0, 2**8 - 1),
    "int8": st.integers(-(2**7), 2**7 - 1),
    "uint16": st.integers(0, 2**16 - 1),
    "int16": st.integers(-(2**15), 2**15 - 1),
    "uint32": st.integers(0, 2**32 - 1),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "uint64": st.integers(0, 2**64 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "float32": st.floats(width=32, allow_nan=False),
    "float64": st.floats(allow_nan=False),
    "bool": st.booleans(),
    "text": st.text(max_size=20),
}


@pytest.mark.parametrize("kind", SCALARS)
@given(data=st.data())
def test_what_is_written_is_read_again_with_its_type(kind: str, data: st.DataObject) -> None:
    value = data.draw(SCALARS[kind])
    several = data.draw(st.lists(SCALARS[kind], max_size=5))
    content = encode_header({"one": encode_value(value, kind), "many": encode_value(several, f"{kind}[]")}, ())
    header = read_header(BytesSource(content))
    assert header.metadata["one"] == value
    assert header.metadata["many"] == tuple(several)
    assert header.types == {"one": kind, "many": f"{kind}[]"}


def test_the_short_forms_name_their_types() -> None:
    content = encode_header(
        {"a": u32(7), "b": f32(0.5), "c": truth(True), "d": text("é"), "e": u32_array([1, 2]), "f": text_array(["x"])},
        (),
    )
    header = read_header(BytesSource(content))
    assert dict(header.metadata) == {"a": 7, "b": 0.5, "c": True, "d": "é", "e": (1, 2), "f": ("x",)}


@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.integers(1, 5), st.sampled_from([GgmlType.F32, GgmlType.Q4_0, GgmlType.Q6_K])),
        min_size=1,
        max_size=6,
    )
)
def test_tensors_are_laid_out_without_overlap_at_the_alignment(described: list[tuple[int, int, GgmlType]]) -> None:
    shapes = [
        (f"t{at}", (blocks * kind.block_elements, rows), kind) for at, (blocks, rows, kind) in enumerate(described)
    ]
    placed = place_tensors(shapes)
    end = 0
    for tensor, (name, shape, kind) in zip(placed, shapes, strict=True):
        assert (tensor.name, tensor.shape, tensor.type) == (name, shape, kind)
        assert tensor.offset_bytes % ALIGNMENT == 0
        assert end <= tensor.offset_bytes < end + ALIGNMENT
        end = tensor.offset_bytes + tensor.size_bytes
    content = encode_header({}, placed)
    assert len(content) % ALIGNMENT == 0
    assert read_header(BytesSource(content + bytes(end))).tensors == placed


def test_a_text_with_a_lone_surrogate_is_written() -> None:
    assert encode_value("\ud800", "text").endswith(b"\xed\xa0\x80")


def test_a_number_that_its_type_cannot_hold_is_an_error() -> None:
    with pytest.raises(struct.error):
        u32(-1)
    with pytest.raises(KeyError):
        encode_value(1, "uint128")
