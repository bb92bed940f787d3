"""Layers by device, against what llama.cpp's loader does with the same numbers."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lilliput.fit import RAM, Layout
from lilliput.fit.placement import SHARE_STEPS, Part, homes, place, shares_of

GPU = "Vulkan0"
LAYOUT = Layout(blocks=(10, 20, 30, 40), experts=(0, 0, 0, 0), input_bytes=7, output_bytes=5, tied_bytes=0)
KV = (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("layers", "places"),
    [
        (0, (RAM, RAM, RAM, RAM, RAM)),
        (1, (RAM, RAM, RAM, RAM, GPU)),
        (2, (RAM, RAM, RAM, GPU, GPU)),
        (4, (RAM, GPU, GPU, GPU, GPU)),
        (5, (GPU, GPU, GPU, GPU, GPU)),
        (99, (GPU, GPU, GPU, GPU, GPU)),
    ],
)
def test_offloaded_are_the_output_and_the_last_layers_before_it(layers: int, places: tuple[str, ...]) -> None:
    assert homes(4, [(GPU, 1.0)], layers) == places


def test_without_devices_everything_stays() -> None:
    assert homes(3, [], 4) == (RAM,) * 4


def as_llama_cpp(blocks: int, shares: list[float], gpu_layers: int) -> list[int | None]:
    """``get_layer_buft_list`` of llama.cpp's ``load_tensors``: None is the CPU."""
    sums = list(accumulate(shares))
    splits = [one / sums[-1] for one in sums]
    start, active = max(blocks + 1 - gpu_layers, 0), min(gpu_layers, blocks + 1)

    def device(layer: int) -> int | None:
        if layer < start or layer - start >= active:
            return None
        return bisect_right(splits, (layer - start) / active)

    return [device(layer) for layer in range(blocks + 1)]


@given(
    st.integers(1, 100),
    st.lists(st.sampled_from([1.0, 2.0, 3.0, 8.0, 24.0]), min_size=1, max_size=4),
    st.integers(0, 110),
)
def test_several_devices_share_layers_as_llama_cpp_does(blocks: int, shares: list[float], gpu_layers: int) -> None:
    found = homes(blocks, [(f"CUDA{number}", share) for number, share in enumerate(shares)], gpu_layers)
    theirs = as_llama_cpp(blocks, shares, gpu_layers)
    expected = [RAM if one is None else f"CUDA{one}" for one in theirs]
    different = [layer for layer, pair in enumerate(zip(found, expected, strict=True)) if pair[0] != pair[1]]
    assert len(different) <= len(shares) - 1  # a layer that begins exactly at a border, where rounding decides


def test_weights_and_caches_go_with_their_layers_and_the_embedding_stays() -> None:
    parts = place(LAYOUT, KV, homes(4, [(GPU, 1.0)], 3))
    assert parts == {RAM: Part(10 + 20 + 7, 1 + 2, 2), GPU: Part(30 + 40 + 5, 3 + 4, 3)}


def test_a_tied_embedding_is_copied_only_where_the_output_is_offloaded() -> None:
    tied = Layout(LAYOUT.blocks, LAYOUT.experts, 7, 0, 7)
    assert place(tied, KV, homes(4, [], 0)) == {RAM: Part(107, 10, 5)}
    assert place(tied, KV, homes(4, [(GPU, 1.0)], 1)) == {RAM: Part(107, 10, 4), GPU: Part(7, 0, 1)}


def test_experts_of_the_first_layers_stay_while_their_layers_go() -> None:
    mixture = Layout(LAYOUT.blocks, (8, 16, 24, 32), 7, 5, 0)
    whole = homes(4, [(GPU, 1.0)], 5)
    assert place(mixture, KV, whole, 2) == {RAM: Part(7 + 8 + 16, 0, 0), GPU: Part(2 + 4 + 70 + 5, 10, 5)}
    assert place(mixture, KV, homes(4, [], 0), 2) == {RAM: Part(112, 10, 5)}


@given(
    st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 50)), min_size=1, max_size=20),
    st.integers(0, 25),
    st.integers(0, 25),
    st.integers(1, 3),
)
def test_nothing_is_lost_and_nothing_counts_twice(
    layers: list[tuple[int, int, int]], gpu_layers: int, expert_layers: int, devices: int
) -> None:
    blocks = tuple(rest + experts for rest, experts, _ in layers)
    layout = Layout(blocks, tuple(experts for _, experts, _ in layers), 11, 13, 0)
    places = homes(len(layers), [(f"CUDA{number}", 1.0 + number) for number in range(devices)], gpu_layers)
    parts = place(layout, [kv for _, _, kv in layers], places, expert_layers)
    assert sum(part.weights_bytes for part in parts.values()) == layout.total_bytes
    assert sum(part.kv_bytes for part in parts.values()) == sum(kv for _, _, kv in layers)
    assert sum(part.layers for part in parts.values()) == len(layers) + 1
    assert next(iter(parts)) == RAM


@given(st.lists(st.integers(0, 100 * 1024**3), min_size=1, max_size=6))
def test_shares_follow_what_may_be_used_and_are_whole_parts(rooms: list[int]) -> None:
    shares = shares_of(rooms)
    assert sum(shares) == SHARE_STEPS
    assert all(share >= 0 and share == int(share) for share in shares)
    if any(rooms):
        for room, share in zip(rooms, shares, strict=True):
            assert abs(share - SHARE_STEPS * room / sum(rooms)) <= 1


def test_a_little_more_or_less_free_memory_leaves_the_shares_as_they_are() -> None:
    assert shares_of([24_000, 8_000]) == shares_of([24_100, 7_980]) == (48.0, 16.0)
    assert shares_of([0, -5]) == (32.0, 32.0)
    assert shares_of([10, -5]) == (64.0, 0.0)
