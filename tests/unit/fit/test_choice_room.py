"""What is given up, and where things go, when not all that was wished has room."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.fit.choices import GPU, ask, candidate, case, option, setting_of, taken, verdict
from tests.unit.fit.offers import budget

from lilliput.fit import Budget

# Context and slots


def test_the_wanted_context_is_kept_as_long_as_anything_at_the_floor_fits() -> None:
    good = candidate("Q8_0", option("Q8_0", 120), option("Q8_0", 90, context_tokens=4096))
    least = candidate("Q4_K_M", option("Q4_K_M", 95), option("Q4_K_M", 60, context_tokens=4096))
    choice = ask(good, least, use_case=case("Q4_K_M"))
    assert (taken(choice), setting_of(choice).context_tokens) == ("Q4_K_M", 8192)
    assert verdict(choice, "Q8_0").near_misses == ("fits at 4096",)
    assert not verdict(choice, "Q8_0").fits
    strict = ask(good, least, use_case=case("Q5_K_M"))
    assert (taken(strict), setting_of(strict).context_tokens) == ("Q8_0", 4096)
    assert verdict(strict, "Q8_0").reason.endswith(
        "; a context of 4096 instead of 8192: nothing at or above Q5_K_M fits at 8192 with 4 slots"
    )


def test_a_pinned_context_is_refused_rather_than_changed() -> None:
    only = candidate("Q8_0", option("Q8_0", 120), option("Q8_0", 90, context_tokens=4096))
    choice = ask(only, context_pinned=True)
    assert choice.chosen is None
    assert verdict(choice, "Q8_0").near_misses == ("fits at 4096",)
    assert taken(ask(only)) == "Q8_0"


def test_fewer_slots_are_the_last_resort() -> None:
    variant = [option("Q8_0", 120), option("Q8_0", 90, slots=1), option("Q8_0", 99, context_tokens=512)]
    choice = ask(candidate("Q8_0", *variant))
    assert (setting_of(choice).slots, setting_of(choice).context_tokens) == (4, 512)
    fewer = ask(candidate("Q8_0", *variant[:2]))
    assert setting_of(fewer).slots == 1
    assert "; 1 slot instead of 4: nothing at or above Q2_K fits at 8192 with 4 slots" in fewer.summary
    pinned = ask(candidate("Q8_0", *variant[:2]), slots_pinned=True)
    assert pinned.chosen is None
    assert verdict(pinned, "Q8_0").near_misses == ("fits with 1 slot",)


# Accelerators


def test_full_offload_comes_before_quality() -> None:
    choice = ask(
        candidate("Q8_0", option("Q8_0", 40, 30, vram=40, offload="partial", gpu_layers=20)),
        candidate("Q4_K_M", option("Q4_K_M", 0, 90, vram=45, offload="full", gpu_layers=81)),
        budgets=GPU,
    )
    assert taken(choice) == "Q4_K_M"
    assert "only with" in verdict(choice, "Q8_0").reason
    assert verdict(choice, "Q8_0").reason.endswith("and Q4_K_M fits wholly on Vulkan0")


def test_where_nothing_fits_wholly_the_fastest_placement_of_the_best_is_taken() -> None:
    parts = [option("Q8_0", 80 - n, 5 + n, vram=n, offload="partial", gpu_layers=n) for n in (10, 20, 40, 60)]
    choice = ask(candidate("Q8_0", option("Q8_0", 0, 90, vram=80, offload="full", gpu_layers=81), *parts), budgets=GPU)
    assert setting_of(choice).gpu_layers == 40
    assert "40 of 81 layers on Vulkan0, ram: 60 B under 100 B, Vulkan0: 10 B under 50 B" in choice.summary


def test_excess_is_told_by_device() -> None:
    choice = ask(candidate("Q8_0", option("Q8_0", 130, vram=60, offload="partial", gpu_layers=9)), budgets=GPU)
    assert verdict(choice, "Q8_0").reason == (
        "needs 190 B + 0 B KV at 8192, all layers on Vulkan0; ram: 30 B over 100 B, Vulkan0: 10 B over 50 B,"
        " 0 B for computing included"
    )
    absent = ask(candidate("Q8_0", option("Q8_0", 10, vram=60, offload="full", gpu_layers=9)))
    assert "Vulkan0: 60 B over nothing" in verdict(absent, "Q8_0").reason


def test_a_pinned_placement_is_kept_and_another_is_told() -> None:
    variant = candidate(
        "Q8_0",
        option("Q8_0", 0, vram=80, offload="full", gpu_layers=81),
        option("Q8_0", 60, vram=20, offload="partial", gpu_layers=20),
    )
    choice = ask(variant, budgets=GPU, gpu_layers=81)
    assert choice.chosen is None
    assert verdict(choice, "Q8_0").near_misses == ("fits with 20 of 81 layers on Vulkan0",)
    none = ask(variant, budgets=GPU, gpu_layers=40)
    assert verdict(none, "Q8_0").reason == "cannot be set up with 40 layers on accelerators"


def test_what_fits_in_part_is_told_what_would_fit_wholly() -> None:
    choice = ask(
        candidate(
            "Q8_0",
            option("Q8_0", 40, vram=40, offload="partial", gpu_layers=20),
            option("Q8_0", 0, vram=50, offload="full", gpu_layers=81, context_tokens=4096),
        ),
        budgets=GPU,
    )
    assert setting_of(choice).gpu_layers == 20
    assert verdict(choice, "Q8_0").near_misses == ("fits wholly on Vulkan0 at 4096",)


# What would make it fit


def test_several_ways_are_told_and_combined_ones_only_where_no_single_one_is_enough() -> None:
    ways = [
        option("Q8_0", 130),
        option("Q8_0", 99, context_tokens=4096),
        option("Q8_0", 70, context_tokens=2048),
        option("Q8_0", 98, kv_type="q8_0"),
        option("Q8_0", 60, kv_type="q4_0"),
    ]
    choice = ask(candidate("Q8_0", *ways), kv_type="F16", context_pinned=True)
    assert verdict(choice, "Q8_0").near_misses == ("fits at 4096", "fits with q8_0 KV: KLD +0.001")
    combined = [ways[0], option("Q8_0", 90, context_tokens=2048, kv_type="q8_0", slots=2)]
    far = ask(candidate("Q8_0", *combined), context_pinned=True)
    assert verdict(far, "Q8_0").near_misses == ("fits at 2048 with q8_0 KV and 2 slots: KLD +0.001",)


def in_ram(**sizes: int) -> dict[str, dict[str, int]]:
    return {name: {"ram": size} for name, size in sizes.items()}


def test_unloading_the_least_that_is_enough_is_told() -> None:
    ram = {"ram": Budget(total_bytes=200, available_bytes=100, reserve_bytes=0, use_fraction=1.0)}
    big = candidate("Q8_0", option("Q8_0", 130))
    loaded = in_ram(gemma3=80, qwen3=30, tiny=5)
    said = verdict(ask(big, budgets=ram, busy=loaded), "Q8_0").near_misses
    assert said == ("fits if `qwen3` is unloaded, which is busy",)
    said = verdict(ask(big, budgets=ram, busy=in_ram(a=20, b=15, c=5)), "Q8_0").near_misses
    assert said == ("fits if `a` and `b` are unloaded, which are busy, 35 B in all",)
    assert verdict(ask(big, budgets=ram, busy=in_ram(a=29)), "Q8_0").near_misses == ()
    limited = {"ram": replace(ram["ram"], limit_bytes=110)}
    assert verdict(ask(big, budgets=limited, busy=loaded), "Q8_0").near_misses == ()


@pytest.mark.parametrize(
    "card",
    [
        Budget(200, 100, 0, 1.0, held_bytes=100),
        Budget(200, 200, 0, 1.0, promised_bytes=100, measured_now=False, held_bytes=100),
    ],
)
def test_unloading_is_told_by_device(card: Budget) -> None:
    """An engine helps by what it holds where room is missing, and only there."""
    whole = candidate("Q8_0", option("Q8_0", 5, vram=130, gpu_layers=33))
    budgets = {"ram": budget(1000), "Vulkan0": card}

    def ways(**busy: dict[str, int]) -> tuple[str, ...]:
        return verdict(ask(whole, budgets=budgets, busy=busy, gpu_layers=33), "Q8_0").near_misses

    assert ways(a={"Vulkan0": 40}) == ("fits if `a` is unloaded, which is busy",)
    assert ways(a={"Vulkan0": 20}, b={"ram": 500}) == ()
    both = ways(a={"Vulkan0": 20}, b={"ram": 9, "Vulkan0": 10})
    assert both == ("fits if `a` and `b` are unloaded, which are busy, 30 B in all",)


def test_an_estimate_leaves_room_for_its_margin() -> None:
    sure = option("Q8_0", 95)
    rough = replace(sure, estimated=True, margins={"ram": 9})
    small = candidate("Q4_K_M", option("Q4_K_M", 50))
    assert taken(ask(candidate("Q8_0", sure), small)) == "Q8_0"
    choice = ask(candidate("Q8_0", rough), small)
    assert taken(choice) == "Q4_K_M"
    said = verdict(choice, "Q8_0").reason
    assert "4 B over the budget of 100 B" in said
    assert said.endswith("0 B for computing and a margin of 9 B for what is estimated included")
    alone = ask(candidate("Q8_0", replace(rough, margins={"ram": 5}))).chosen
    assert alone is not None
    assert "0 B under the budget of 100 B with a margin of 5 B for what is estimated" in alone.reason
