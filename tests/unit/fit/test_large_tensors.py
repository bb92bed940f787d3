"""Tensors that are more than a device takes in one piece, and where their bytes are planned."""

from __future__ import annotations

from lilliput.fit import RAM, Layout, layout_of, scale_layout
from lilliput.fit.placement import Part, homes, place
from lilliput.gguf import GgmlType, Tensor, place_tensors
from lilliput.units import MIB

GPU = "Vulkan0"
BLOCKS = 2


def tensors(*more: tuple[str, tuple[int, ...]]) -> tuple[Tensor, ...]:
    """Two layers with a matrix of 64 MiB and a small one each, and a token embedding of 160 MiB."""
    names: list[tuple[str, tuple[int, ...]]] = [("token_embd.weight", (1024, 81920)), ("output_norm.weight", (1024,))]
    for block in range(BLOCKS):
        names += [(f"blk.{block}.ffn_up.weight", (1024, 32768)), (f"blk.{block}.attn_q.weight", (1024, 1024))]
    return place_tensors((name, shape, GgmlType.F16) for name, shape in (*names, *more))


def weights(layout: Layout, limit_bytes: int | None, *, gpu_layers: int = BLOCKS + 1, experts: int = 0) -> list[int]:
    limits = {} if limit_bytes is None else {GPU: limit_bytes}
    parts = place(layout, [0] * BLOCKS, homes(BLOCKS, [(GPU, 1.0)], gpu_layers), experts, limits)
    return [parts.get(name, Part()).weights_bytes for name in (RAM, GPU)]


def test_a_copy_of_the_token_embedding_that_a_device_refuses_is_not_made() -> None:
    layout = layout_of(tensors(), BLOCKS)
    ram, gpu = weights(layout, None)
    assert weights(layout, 160 * MIB) == [ram, gpu]
    assert weights(layout, 160 * MIB - 1) == [ram, gpu - 160 * MIB]


def test_an_output_matrix_that_a_device_refuses_stays_in_main_memory() -> None:
    layout = layout_of(tensors(("output.weight", (1024, 81920))), BLOCKS)
    ram, gpu = weights(layout, None)
    assert weights(layout, 128 * MIB) == [ram + 160 * MIB, gpu - 160 * MIB]


def test_a_matrix_whose_product_is_too_large_stays_as_well() -> None:
    layout = layout_of(tensors(("output.weight", (32, 81920))), BLOCKS)
    ram, gpu = weights(layout, 160 * MIB)
    assert weights(layout, 159 * MIB) == [ram + 5 * MIB, gpu - 5 * MIB]


def test_matrices_of_layers_stay_where_the_layer_is_offloaded() -> None:
    layout = layout_of(tensors(("output.weight", (32, 32))), BLOCKS)
    for gpu_layers in range(BLOCKS + 2):
        ram, gpu = weights(layout, None, gpu_layers=gpu_layers)
        kept = max(0, gpu_layers - 1) * 64 * MIB
        assert weights(layout, 63 * MIB, gpu_layers=gpu_layers) == [ram + kept, gpu - kept]


def test_experts_that_stay_anyhow_are_not_counted_twice() -> None:
    layout = layout_of(tensors(("blk.0.ffn_up_exps.weight", (1024, 1024, 40))), BLOCKS)
    limit = 79 * MIB
    ram, gpu = weights(layout, limit, experts=1)
    assert weights(layout, limit) == [ram, gpu]
    assert weights(layout, None, experts=1) == [ram, gpu + 160 * MIB]


def test_a_layout_at_another_size_has_its_large_tensors_at_that_size() -> None:
    layout = layout_of(tensors(), BLOCKS)
    half = scale_layout(layout, layout.total_bytes // 2)
    assert [one.size_bytes for one in half.large] == [one.size_bytes // 2 for one in layout.large]
    # The product of 81920 rows is as large as before.
    assert weights(half, 159 * MIB) < weights(half, 160 * MIB)
