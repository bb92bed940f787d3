"""From layouts, scratch and devices to the options of a variant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tests.support.model_headers import MIXTURE, SMALL, Transformer, half, q4_0
from tests.unit.fit.offers import TABLE

from lilliput.fit import (
    RAM,
    Copies,
    Device,
    MemoryNeed,
    Offer,
    Offload,
    Scratch,
    Setting,
    Surroundings,
    assume,
    in_unified_memory,
    layout_of,
    make_candidate,
    shape_of,
    traffic_of,
)
from lilliput.gguf import Header
from lilliput.units import MIB

GPU = "Vulkan0"
SETTING = Setting(2048, 1)
OFFLOADS: tuple[Offload, ...] = ("none", "partial", "full")
DEVICE = Device(GPU, 1.0, 3 * MIB, assume(500e9, "gpu"))


def offer_of(header: Header, **fields: Any) -> Offer:
    layout = layout_of(header.tensors, shape_of(header).block_count)
    made = Offer("Q4_0", "Q4_0", ("a.gguf",), layout.total_bytes + 1000, layout, traffic_of(header))
    return replace(made, **fields)


def around(header: Header, rooms: Mapping[str, int] | None = None, **fields: Any) -> Surroundings:
    """Surroundings in which each cache of a setting has 1 kB a token, and scratch is 5 MiB of RAM, 2 of a device."""
    settings = (SETTING, Setting(1024, 1), Setting(2048, 1, "q8_0"))
    scratch: dict[tuple[Setting, Offload], Scratch] = {}
    for setting in settings:
        for offload in OFFLOADS:
            compute = {RAM: 5 * MIB} | ({GPU: 2 * MIB} if offload != "none" else {})
            scratch[setting, offload] = Scratch(setting.context_tokens * 1000, compute)
    made = Surroundings(shape_of(header), TABLE, assume(40e9), rooms or {RAM: 10**12}, scratch, overhead_bytes=7 * MIB)
    return replace(made, **fields)


def test_without_devices_a_setting_is_one_option_with_everything_in_ram() -> None:
    header = SMALL.header(q4_0)
    offer = offer_of(header)
    candidate = make_candidate(offer, [SETTING], around(header))
    (option,) = candidate.options
    assert (option.setting, option.offload, option.estimated) == (SETTING, "none", False)
    assert option.needs == {RAM: MemoryNeed(offer.file_bytes, 2048 * 1000, 5 * MIB, 7 * MIB)}
    assert (candidate.name, candidate.file_bytes, candidate.problem, candidate.exists) == (
        "Q4_0",
        offer.file_bytes,
        None,
        True,
    )


def test_headers_are_no_weights() -> None:
    header = SMALL.header(q4_0)
    (option,) = make_candidate(offer_of(header, header_bytes=600), [SETTING], around(header)).options
    assert option.needs[RAM].weights_bytes == offer_of(header).file_bytes - 600


def test_copies_count_where_all_layers_stay_on_the_cpu() -> None:
    header = SMALL.header(q4_0)
    offer = offer_of(header, copies=Copies(copied_bytes=5000, added_bytes=2000, idle_bytes=3000))
    here = around(header, {RAM: 10**12, GPU: 10**12}, devices=(DEVICE,))
    by_offload = {one.offload: one.needs[RAM] for one in make_candidate(offer, [SETTING], here).options}
    need = by_offload["none"]
    assert need.weights_bytes == offer.file_bytes + 2000
    assert (need.copied_bytes, need.idle_bytes) == (5000, 3000)
    assert by_offload["full"].copied_bytes == by_offload["full"].idle_bytes == 0


def test_corrections_hold_for_their_offload_and_never_leave_less_than_nothing() -> None:
    header = SMALL.header(q4_0)
    corrections: dict[Offload, int] = {"none": -8 * MIB, "full": 3 * MIB}
    here = around(header, {RAM: 10**12, GPU: 10**12}, devices=(DEVICE,), corrections=corrections)
    by_offload = {one.offload: one.needs[RAM] for one in make_candidate(offer_of(header), [SETTING], here).options}
    assert (by_offload["none"].overhead_bytes, by_offload["full"].overhead_bytes) == (0, 10 * MIB)


def test_settings_that_llama_cpp_refused_are_left_out() -> None:
    header = SMALL.header(q4_0)
    assert make_candidate(offer_of(header), [Setting(4096, 1)], around(header)).options == ()


def test_with_a_device_there_is_none_some_and_all_of_it() -> None:
    header = SMALL.header(q4_0)
    offer = offer_of(header)
    here = around(header, {RAM: 10**12, GPU: 8 * MIB}, devices=(DEVICE,))
    by_layers = {one.setting.gpu_layers: one for one in make_candidate(offer, [SETTING], here).options}
    assert set(by_layers) >= {0, 5}
    assert [by_layers[0].offload, by_layers[5].offload] == ["none", "full"]
    partial = next(one for one in by_layers.values() if one.offload == "partial")
    assert partial.needs[GPU].total_bytes <= 8 * MIB
    more = make_candidate(offer, [SETTING], replace(here, gpu_layers=partial.setting.gpu_layers + 1)).options[0]
    assert more.needs[GPU].total_bytes > 8 * MIB  # one layer more would not fit
    whole = by_layers[5].needs
    assert whole[RAM].kv_bytes == 0
    assert whole[GPU].kv_bytes == 2048 * 1000
    assert whole[RAM].weights_bytes == offer.layout.input_bytes + 1000
    assert sum(need.weights_bytes for need in whole.values()) == offer.file_bytes
    assert (whole[GPU].compute_bytes, whole[GPU].overhead_bytes) == (2 * MIB, 3 * MIB)


def test_where_not_one_layer_fits_there_is_no_partial_option() -> None:
    header = SMALL.header(q4_0)
    here = around(header, {RAM: 10**12, GPU: MIB}, devices=(DEVICE,))
    options = make_candidate(offer_of(header), [SETTING], here).options
    assert [one.offload for one in options] == ["none", "full"]


def test_pinned_layers_are_the_only_ones_and_bounded_by_the_model() -> None:
    header = SMALL.header(q4_0)
    here = around(header, {RAM: 10**12, GPU: MIB}, devices=(DEVICE,))
    for pinned, layers in ((0, 0), (2, 2), (99, 5), (-1, 0)):
        (option,) = make_candidate(offer_of(header), [SETTING], replace(here, gpu_layers=pinned)).options
        assert option.setting.gpu_layers == layers
    (option,) = make_candidate(offer_of(header), [SETTING], replace(here, gpu_layers=3, devices=())).options
    assert option.setting.gpu_layers == 0


def test_experts_may_stay_behind_so_that_the_rest_goes() -> None:
    header = MIXTURE.header(half)
    offer = offer_of(header)
    whole = around(header, {RAM: 10**12, GPU: 10**12}, devices=(DEVICE,), gpu_layers=5)
    needed = make_candidate(offer, [SETTING], whole).options[0].needs[GPU].total_bytes
    here = replace(whole, rooms={RAM: 10**12, GPU: needed - 1}, gpu_layers=None)
    split = [one for one in make_candidate(offer, [SETTING], here).options if one.setting.cpu_expert_layers]
    (option,) = split
    assert (option.setting.gpu_layers, option.setting.cpu_expert_layers, option.offload) == (5, 1, "partial")
    assert option.needs[GPU].total_bytes == needed - offer.layout.experts[0]


def test_a_tied_embedding_takes_room_twice_when_the_output_is_offloaded() -> None:
    header = Transformer(tied=True).header(half)
    offer = offer_of(header)
    here = around(header, {RAM: 10**12, GPU: 10**12}, devices=(DEVICE,))
    whole = next(one for one in make_candidate(offer, [SETTING], here).options if one.offload == "full")
    assert sum(need.weights_bytes for need in whole.needs.values()) == offer.file_bytes + offer.layout.tied_bytes


def test_quantized_caches_lose_quality_and_devices_win_speed() -> None:
    header = SMALL.header(q4_0)
    here = around(header, {RAM: 10**12, GPU: 10**12}, devices=(DEVICE,))
    options = make_candidate(offer_of(header), [SETTING, Setting(2048, 1, "q8_0")], here).options
    plain, whole = (next(one for one in options if one.offload == offload) for offload in ("none", "full"))
    small = next(one for one in options if one.setting.kv_type == "q8_0" and one.offload == "none")
    assert (small.quality.kld or 0) > (plain.quality.kld or 0)
    assert plain.generation is not None
    assert whole.generation is not None
    assert whole.generation.mid > plain.generation.mid > 0
    assert plain.generation.low < plain.generation.mid < plain.generation.high


def test_without_traffic_no_speed_is_told() -> None:
    header = SMALL.header(q4_0)
    (option,) = make_candidate(offer_of(header, traffic=None), [SETTING], around(header)).options
    assert (option.generation, option.prompt) == (None, None)


def test_in_unified_memory_everything_counts_in_ram_too() -> None:
    needs = {RAM: MemoryNeed(1, 2, 3, 4, 5, 6), GPU: MemoryNeed(10, 20, 30, 40)}
    assert in_unified_memory(needs) == {RAM: MemoryNeed(11, 22, 33, 44, 5, 6), GPU: MemoryNeed(10, 20, 30, 40)}


def test_a_layout_that_is_not_the_file_s_own_has_a_margin_where_it_matters() -> None:
    header = SMALL.header(q4_0)
    here = around(header, {RAM: 10**12, GPU: 10**12}, devices=(DEVICE,))
    none, full, *_ = make_candidate(offer_of(header, layout_margin=0.15), [SETTING], here).options
    assert (none.offload, none.estimated, none.margins) == ("none", False, {})
    assert (full.offload, full.estimated) == ("full", True)
    assert full.margins == {name: round(0.15 * need.weights_bytes) for name, need in full.needs.items()}
    assert full.claims()[GPU] == full.needs[GPU].total_bytes + full.margins[GPU]


def test_estimated_scratch_has_a_margin_and_as_many_layers_go_as_leave_room_for_it() -> None:
    header = SMALL.header(q4_0)
    here = around(header, {RAM: 10**12, GPU: 8 * MIB}, devices=(DEVICE,))
    guessed = {key: replace(told, estimated=True) for key, told in here.scratch.items()}
    options = make_candidate(offer_of(header), [SETTING], replace(here, scratch=guessed)).options
    partial = next(one for one in options if one.offload == "partial")
    need = partial.needs[GPU]
    assert partial.margins[GPU] == round(0.1 * (need.total_bytes - need.weights_bytes))
    assert partial.claims()[GPU] <= 8 * MIB


def test_several_devices_are_told_their_shares() -> None:
    header = SMALL.header(q4_0)
    devices = (replace(DEVICE, share=48.0), replace(DEVICE, name="CUDA1", share=16.0))
    here = around(header, {RAM: 10**12, GPU: 10**12, "CUDA1": 10**12}, devices=devices)
    splits = {
        one.setting.gpu_layers: one.tensor_split for one in make_candidate(offer_of(header), [SETTING], here).options
    }
    assert splits[0] == ()
    assert splits[5] == (48.0, 16.0)
