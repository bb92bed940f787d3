from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.support.model_headers import LLAMA_70B
from tests.unit.fit.headers import GEMMA3_27B, LFM2_350M
from tests.unit.services.plan_bench import CASES

from lilliput.fit import RAM, Device, Offload, Scratch, Setting, Wish, assume, shape_of
from lilliput.llama import Buffers
from lilliput.services.settings_grid import (
    IDLE_SEQUENCES,
    estimated_scratch,
    idle_sequences,
    on_absent_devices,
    points_of,
    scratch_of,
    settings_of,
)

DENSE, WINDOWED, HYBRID = shape_of(LLAMA_70B.header()), shape_of(GEMMA3_27B), shape_of(LFM2_350M)
WISH = Wish(CASES.default, 8192, 4)
GPU = Device("Vulkan0", 1.0, 0, assume(500e9, "gpu"))


def grid(shape: Any, **pins: Any) -> tuple[set[int], set[int], set[str]]:
    settings = settings_of(shape, replace(WISH, **pins))
    assert len(set(settings)) == len(settings)
    kinds = {one.kv_type for one in settings}
    return {one.context_tokens for one in settings}, {one.slots for one in settings}, kinds


def test_contexts_are_halved_and_caches_quantized_where_nothing_is_pinned() -> None:
    assert grid(DENSE) == ({8192, 4096, 2048}, {4}, {"f16", "q8_0", "q4_0"})
    assert settings_of(DENSE, WISH)[0] == Setting(8192, 4, "f16")


@pytest.mark.parametrize("shape", [WINDOWED, HYBRID])
def test_fewer_slots_are_looked_at_where_each_costs_memory(shape: Any) -> None:
    assert grid(shape)[1] == {4, 1}
    assert grid(shape, slots_pinned=True)[1] == {4}
    assert grid(shape, slots=1)[1] == {1}


def test_what_is_pinned_stays_and_smaller_contexts_are_only_told() -> None:
    contexts, slots, kinds = grid(DENSE, context_pinned=True, slots_pinned=True, kv_type="Q8_0")
    assert (contexts, slots, kinds) == ({8192, 4096, 2048, 1024, 512}, {4}, {"q8_0"})
    allowed = [
        one
        for one in settings_of(DENSE, replace(WISH, context_pinned=True))
        if replace(WISH, context_pinned=True).allows(one)
    ]
    assert {one.context_tokens for one in allowed} == {8192}
    assert grid(DENSE, context_tokens=600, context_pinned=True)[0] == {600}


def test_a_context_below_the_least_is_used_as_it_is() -> None:
    assert grid(DENSE, context_tokens=1000)[0] == {1000}


def test_prefixes_are_kept_only_where_sequences_cost_nothing() -> None:
    assert [idle_sequences(one) for one in (DENSE, WINDOWED, HYBRID)] == [IDLE_SEQUENCES, 0, 0]


def test_points_are_asked_without_devices_on_the_cpu_only() -> None:
    settings = settings_of(DENSE, WISH)
    points = points_of(settings, DENSE, (), ubatch_tokens=512)
    assert set(points) == {(setting, "none") for setting in settings}
    point = points[Setting(8192, 4), "none"]
    assert (point.model.gpu_layers, point.context.context_tokens) == (0, 8192)
    assert point.context.max_sequences == 4 + IDLE_SEQUENCES
    assert (point.context.ubatch_tokens, point.context.kv_type) == (512, "f16")


def test_with_devices_some_and_all_layers_are_asked_about_too() -> None:
    points = points_of([Setting(8192, 4)], DENSE, [GPU], ubatch_tokens=512)
    layers = {offload: point.model.gpu_layers for (_, offload), point in points.items()}
    assert layers == {"none": 0, "partial": 41, "full": 81}


def test_several_devices_are_asked_about_with_their_shares() -> None:
    cards = [replace(GPU, name="CUDA0", share=48.0), replace(GPU, name="CUDA1", share=16.0)]
    points = points_of([Setting(8192, 4)], DENSE, cards, ubatch_tokens=512)
    splits = {offload: point.model.tensor_split for (_, offload), point in points.items()}
    assert splits == {"none": (), "partial": (48.0, 16.0), "full": (48.0, 16.0)}
    assert (
        points_of([Setting(8192, 4)], DENSE, [GPU], ubatch_tokens=512)[Setting(8192, 4), "full"].model.tensor_split
        == ()
    )


def buffers(compute: dict[str, int], output: dict[str, int]) -> Buffers:
    return Buffers({}, {}, compute, output, ())


def test_scratch_lies_on_its_devices_and_what_belongs_to_none_in_ram() -> None:
    setting = Setting(8192, 4)
    points = points_of([setting], DENSE, [GPU], ubatch_tokens=512)
    told = {points[setting, "full"]: buffers({"Vulkan0": 100, "Vulkan_Host": 20, "CPU": 3}, {"Vulkan_Host": 4})}
    assert scratch_of(points, told, [GPU]) == {(setting, "full"): Scratch(0, {RAM: 27, "Vulkan0": 100})}


def test_the_formula_tells_one_scratch_a_setting_and_says_so() -> None:
    found = estimated_scratch(settings_of(DENSE, WISH), DENSE, ubatch_tokens=512)
    assert all(told.estimated for told in found.values())
    assert found[Setting(8192, 4), "none"].cache_bytes == 2560 * 1024**2


def test_scratch_on_absent_devices_is_taken_from_the_cpu_and_is_an_estimate() -> None:
    setting = Setting(8192, 4)
    none: Offload = "none"
    found = on_absent_devices({(setting, none): Scratch(7, {RAM: 50})}, [GPU])
    assert found[setting, "none"] == Scratch(7, {RAM: 50})
    for offload in ("partial", "full"):
        assert {key[1]: value for key, value in found.items()}[offload] == Scratch(
            7, {RAM: 50, "Vulkan0": 50}, estimated=True
        )
