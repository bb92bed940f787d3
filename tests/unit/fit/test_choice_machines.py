"""What is chosen for real models on the machines that people have."""

from __future__ import annotations

import time

import pytest
from tests.unit.fit.offers import CASES, SIZES_8B, SIZES_70B, TABLE, Offers, budget, machine

from lilliput.fit import Budget, Wish, choose
from lilliput.fit.joint import Choice
from lilliput.fit.options import Candidate
from lilliput.units import GIB, MIB

DDR4, DDR5, RTX3090, RTX4060 = 51.2e9, 83.2e9, 936e9, 272e9


def seventy(ram: float, vram: float | None = None) -> list[Candidate]:
    if vram is None:
        return Offers(80, 2560, bandwidths={"ram": ram}).candidates(SIZES_70B)
    offers = Offers(80, 2560, bandwidths={"ram": ram, "CUDA0": vram}, accelerator="CUDA0")
    return offers.candidates(SIZES_70B, placements=[(layers, 0) for layers in (*range(0, 80, 5), 81)])


def eight(ram: float, vram: float | None = None) -> list[Candidate]:
    if vram is None:
        return Offers(32, 1024, bandwidths={"ram": ram}).candidates(SIZES_8B)
    offers = Offers(32, 1024, bandwidths={"ram": ram, "CUDA0": vram}, accelerator="CUDA0")
    return offers.candidates(SIZES_8B, placements=[(layers, 0) for layers in (*range(0, 33, 4), 33)])


def ask(candidates: list[Candidate], budgets: dict[str, Budget], case: str = "general") -> Choice:
    return choose(candidates, budgets, Wish(CASES.get(case), 8192, 4), table=TABLE, architecture="llama")


def taken(choice: Choice) -> tuple[str | None, int, str, int]:
    if choice.chosen is None or choice.chosen.option is None:
        return None, 0, "", 0
    setting = choice.chosen.option.setting
    return choice.chosen.candidate.name, setting.context_tokens, setting.kv_type, setting.gpu_layers


def reasons(choice: Choice) -> dict[str, str]:
    return {verdict.candidate.name: verdict.reason for verdict in choice.verdicts}


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("general", (None, 0, "", 0)),
        ("high-stakes", (None, 0, "", 0)),
        ("experiment", ("Q2_K", 2048, "q8_0", 0)),
    ],
)
def test_a_70b_in_32_gb_is_an_experiment_at_most(case: str, expected: tuple[str | None, int, str, int]) -> None:
    choice = ask(seventy(DDR4), machine(32), case)
    assert taken(choice) == expected
    assert reasons(choice)["Q4_K_M"].startswith("needs 39.6 GiB + ")


def test_a_70b_in_16_gb_is_refused_with_all_the_numbers() -> None:
    choice = ask(seventy(DDR4), machine(16), "experiment")
    assert choice.chosen is None
    assert choice.summary == (
        "nothing at or above Q2_K fits, the floor of experiment; the smallest of them, Q2_K, needs 24.6 GiB"
        " + 2.5 GiB KV at 8192, 14.7 GiB over the budget of 12.8 GiB, 464.8 MiB for computing included;"
        " nor does anything else"
    )
    assert not any(verdict.fits for verdict in choice.verdicts)


def test_a_70b_in_32_gb_is_told_what_would_fit_below_the_floor() -> None:
    summary = ask(seventy(DDR4), machine(32)).summary
    assert summary.startswith(
        "nothing at or above Q4_K_M fits, the floor of general; the smallest of them, Q4_K_M, needs"
    )
    assert "16.9 GiB over the budget of 25.6 GiB" in summary
    assert summary.endswith(
        "Q2_K would fit with q8_0 KV: it needs 24.6 GiB + 340.0 MiB q8_0 KV at 2048,"
        " but is below Q4_K_M, the floor of general: KLD 0.333 against 0.028"
    )


def test_a_70b_on_a_workstation_of_64_gb() -> None:
    general = ask(seventy(DDR5), machine(64))
    assert taken(general) == ("Q4_K_M", 8192, "f16", 0)
    assert reasons(general)["Q5_K_M"] == (
        "fits, but is slower, and nothing reaches 8 tokens/s: 1.3-1.7 tokens/s against 1.5-2 of Q4_K_M"
    )
    assert reasons(general)["Q6_K"] == (
        "needs 53.9 GiB + 2.5 GiB KV at 8192, 5.7 GiB over the budget of 51.2 GiB, 464.8 MiB for computing included"
    )
    assert taken(ask(seventy(DDR5), machine(64), "high-stakes")) == ("Q5_K_M", 8192, "f16", 0)
    assert taken(ask(seventy(DDR5), machine(64), "experiment"))[0] == "Q2_K"


def test_a_70b_split_between_24_gb_of_vram_and_32_gb_of_ram() -> None:
    general = ask(seventy(DDR4, RTX3090), machine(32, CUDA0=24))
    assert taken(general) == ("Q4_K_M", 8192, "f16", 40)
    assert general.chosen is not None
    assert (
        "40 of 81 layers on CUDA0, ram: 3.8 GiB under 25.6 GiB, CUDA0: 1.6 GiB under 23.0 GiB" in general.chosen.reason
    )
    over = reasons(general)["Q5_K_M"]
    assert over.startswith(
        "needs 46.5 GiB + 2.5 GiB KV at 8192, 40 of 81 layers on CUDA0; CUDA0: 1.8 GiB over 23.0 GiB"
    )
    experiment = ask(seventy(DDR4, RTX3090), machine(32, CUDA0=24), "experiment")
    assert taken(experiment)[0] == "Q3_K_L"
    assert reasons(experiment)["Q4_K_M"].startswith("fits, but is slower than the target: 1.7-2.3 tokens/s against 3")


@pytest.mark.parametrize("gib", [16, 32, 64])
def test_an_8b_without_an_accelerator_is_as_good_as_the_target_allows(gib: int) -> None:
    choice = ask(eight(DDR4), machine(gib))
    assert taken(choice) == ("Q5_K_M", 8192, "q8_0", 0)
    assert reasons(choice)["Q6_K"] == "fits, but is slower than the target: 5.3-7.4 tokens/s against 8"
    assert reasons(choice)["Q4_K_M"] == "fits, but keeps less quality than Q5_K_M: KLD 0.028 against 0.012"
    assert taken(ask(eight(DDR4), machine(gib), "high-stakes")) == ("Q8_0", 8192, "f16", 0)
    assert taken(ask(eight(DDR4), machine(gib), "bulk"))[0] == "Q3_K_M"


def test_an_8b_on_24_gb_of_vram_runs_in_q8_0_and_not_in_f16() -> None:
    choice = ask(eight(DDR4, RTX3090), machine(32, CUDA0=24))
    assert taken(choice) == ("Q8_0", 8192, "f16", 33)
    assert reasons(choice)["F16"] == (
        "fits, but is slower, and the answers would not differ: 44-60 tokens/s against 78-107 of Q8_0,"
        " KLD 0.000 against 0.001"
    )


def test_an_8b_on_8_gb_of_vram_is_made_to_fit_wholly() -> None:
    choice = ask(eight(DDR4, RTX4060), machine(16, CUDA0=8))
    name, context, _, layers = taken(choice)
    assert (name, context, layers) == ("Q5_K_M", 8192, 33)
    assert reasons(choice)["Q8_0"] == "fits, but only with 20 of 33 layers on CUDA0, and Q5_K_M fits wholly on CUDA0"


def test_an_8b_in_unified_memory_counts_once_against_both_budgets() -> None:
    offers = Offers(32, 1024, bandwidths={"ram": 100e9, "MTL0": 100e9}, accelerator="MTL0")
    candidates = offers.candidates(SIZES_8B, placements=[(0, 0), (33, 0)])
    budgets = machine(16, MTL0=12)
    wish = Wish(CASES.get("general"), 8192, 4)
    choice = choose(candidates, budgets, wish, table=TABLE, architecture="llama", unified={"MTL0"})
    assert taken(choice) == ("Q8_0", 8192, "f16", 33)
    both = {name: one.budget_bytes for name, one in budgets.items()}
    tight = budgets | {"ram": Budget(both["ram"], 7 * 1024**3, 0, 1.0)}
    squeezed = choose(candidates, tight, wish, table=TABLE, architecture="llama", unified={"MTL0"})
    assert taken(squeezed)[0] == "Q5_K_M"
    assert reasons(squeezed)["Q8_0"].startswith("needs 7.9 GiB + 1.0 GiB KV at 8192; ram: 2.4 GiB over 7.0 GiB")


MOE_SIZES = {"Q8_0": 30970, "Q6_K": 23930, "Q5_K_M": 20710, "Q4_K_M": 17700, "Q3_K_M": 14030}
"""MiB of a mixture of 30 billion parameters with 3 billion active; 768 MiB of KV cache at 8192 tokens."""


def test_a_mixture_keeps_its_experts_in_ram_where_the_vram_is_small() -> None:
    offers = Offers(
        48,
        768,
        architecture="qwen3moe",
        bandwidths={"ram": DDR4, "CUDA0": RTX4060},
        accelerator="CUDA0",
        experts=0.95,
        active=0.11,
    )
    candidates = offers.candidates(MOE_SIZES, placements=[(0, 0), (12, 0), (49, 48), (49, 36), (49, 0)])
    choice = choose(
        candidates, machine(32, CUDA0=8), Wish(CASES.get("general"), 8192, 4), table=TABLE, architecture="qwen3moe"
    )
    assert choice.chosen is not None
    assert choice.chosen.option is not None
    assert choice.chosen.candidate.name == "Q6_K"
    assert choice.chosen.option.setting.gpu_layers == 49
    assert choice.chosen.option.setting.cpu_expert_layers == 48
    assert "all layers on CUDA0, the experts of 48 on the CPU" in choice.chosen.reason
    assert reasons(choice)["Q8_0"].startswith(
        "needs 30.2 GiB + 768.0 MiB KV at 8192, 12 of 49 layers on CUDA0; CUDA0: 1.2"
    )


def test_verdicts_come_best_quality_first_whatever_the_order_given() -> None:
    candidates = Offers(80, 2560).candidates(SIZES_70B)
    choice = ask(candidates[::-1], machine(64))
    assert [one.candidate.name for one in choice.verdicts] == list(SIZES_70B)


def test_a_wide_table_is_judged_quickly() -> None:
    offers = Offers(32, 1024, bandwidths={"ram": 5e10, "CUDA0": 5e11}, accelerator="CUDA0")
    sizes = SIZES_8B | {f"{name}-{n}": size for name, size in SIZES_8B.items() for n in range(1)}
    placements = [(layers, 0) for layers in range(0, 34, 4)]
    candidates = offers.candidates(sizes, contexts=(8192, 4096, 2048, 1024), placements=placements)
    assert sum(len(one.options) for one in candidates) > 1500
    began = time.process_time()
    ask(candidates, machine(16, CUDA0=8))
    assert time.process_time() - began < 1


def test_figures_are_the_ones_of_the_memory_need() -> None:
    offers = Offers(80, 2560)
    (one,) = offers.candidates({"Q5_K_M": SIZES_70B["Q5_K_M"]})
    choice = ask([one], {"ram": budget(int(29.7 * GIB))}, "high-stakes")
    over = choice.verdicts[0].option
    assert over is not None
    assert over.needs["ram"].kv_bytes == 2560 * MIB
    assert reasons(choice)["Q5_K_M"].startswith("needs 46.5 GiB + 2.5 GiB KV at 8192, 19.8 GiB over")
