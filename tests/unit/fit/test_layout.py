from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.support.model_headers import LLAMA_70B, MIXTURE, SMALL, Transformer, q2_k, q4_0

from lilliput.fit import Layout, layout_of, scale_layout
from lilliput.gguf import GgmlType, Tensor, place_tensors


def bytes_of(tensors: tuple[Tensor, ...], *beginnings: str) -> int:
    return sum(tensor.size_bytes for tensor in tensors if tensor.name.startswith(beginnings))


def test_every_tensor_counts_once_by_layer_input_or_output() -> None:
    tensors = SMALL.header(q4_0).tensors
    layout = layout_of(tensors, SMALL.blocks)
    assert layout.blocks == tuple(bytes_of(tensors, f"blk.{block}.") for block in range(SMALL.blocks))
    assert layout.input_bytes == bytes_of(tensors, "token_embd.")
    assert layout.output_bytes == bytes_of(tensors, "output.", "output_norm.")
    assert layout.total_bytes == sum(tensor.size_bytes for tensor in tensors)
    assert (layout.tied_bytes, layout.has_experts) == (0, False)


def test_without_an_output_matrix_the_embedding_would_be_copied() -> None:
    tensors = Transformer(tied=True).header().tensors
    layout = layout_of(tensors, 4)
    assert layout.tied_bytes == layout.input_bytes == bytes_of(tensors, "token_embd.")
    assert layout.output_bytes == bytes_of(tensors, "output_norm.")
    assert layout.total_bytes == sum(tensor.size_bytes for tensor in tensors)


def test_experts_are_known_apart_and_their_router_is_none() -> None:
    tensors = MIXTURE.header().tensors
    layout = layout_of(tensors, 4)
    assert layout.has_experts
    for block, (whole, experts) in enumerate(zip(layout.blocks, layout.experts, strict=True)):
        matrices = [f"blk.{block}.ffn_{part}_exps." for part in ("gate", "up", "down")]
        assert experts == bytes_of(tensors, *matrices) < whole


def test_tensors_of_layers_beyond_stay_with_the_input() -> None:
    tensors = place_tensors(
        [("blk.0.attn_q.weight", (32, 2), GgmlType.F32), ("blk.1.nextn.weight", (32,), GgmlType.F32)]
    )
    layout = layout_of(tensors, 1)
    assert (layout.blocks, layout.input_bytes, layout.output_bytes) == ((256,), 128, 0)


@given(st.integers(0, 10**12))
def test_a_scaled_layout_keeps_its_proportions_and_never_exceeds_its_size(total: int) -> None:
    layout = Layout((300, 400), (100, 0), 200, 90, 7)
    scaled = scale_layout(layout, total)
    assert total - 4 < scaled.total_bytes <= total
    assert abs(scaled.blocks[0] * 990 - 300 * total) < 990
    assert abs(scaled.experts[0] * 990 - 100 * total) < 990


def test_an_empty_layout_can_be_scaled() -> None:
    assert scale_layout(layout_of((), 2), 100).total_bytes == 0


def test_a_large_model_is_as_large_as_published() -> None:
    layout = layout_of(LLAMA_70B.header(q2_k).tensors, 80)
    assert abs(layout.total_bytes / 26_380_000_000 - 1) < 0.005
