from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.fit.choices import GPU, RAM_100, ask, candidate, case, option, setting_of, taken, verdict
from tests.unit.fit.offers import CASES, TABLE

from lilliput.fit import Quality, Wish, choose

# Quality against speed


def test_the_best_quality_at_or_above_the_target_is_taken() -> None:
    choice = ask(
        candidate("Q8_0", option("Q8_0", 80, 6)),
        candidate("Q6_K", option("Q6_K", 60, 10)),
        candidate("Q4_K_M", option("Q4_K_M", 40, 20)),
    )
    assert taken(choice) == "Q6_K"
    assert verdict(choice, "Q8_0").reason == "fits, but is slower than the target: 4.8-7.2 tokens/s against 10"
    assert verdict(choice, "Q4_K_M").reason == "fits, but keeps less quality than Q6_K: KLD 0.028 against 0.005"


def test_below_the_target_each_trade_gives_up_something_else() -> None:
    slow = [
        candidate("Q8_0", option("Q8_0", 80, 3)),
        candidate("Q5_K_M", option("Q5_K_M", 60, 4)),
        candidate("Q3_K_M", option("Q3_K_M", 40, 6)),
    ]
    assert taken(ask(*slow, use_case=case(prefers="quality context speed"))) == "Q8_0"
    assert taken(ask(*slow, use_case=case(prefers="quality speed context", start="Q5_K_M"))) == "Q5_K_M"
    balanced = ask(*slow, use_case=case(prefers="context quality speed", start="Q5_K_M"))
    assert taken(balanced) == "Q8_0"
    fast = ask(*slow, use_case=case(prefers="speed quality context", start="Q5_K_M"))
    assert taken(fast) == "Q3_K_M"
    assert "nothing reaches 10 tokens/s: 2.4-3.6 tokens/s against 4.8-7.2 of Q3_K_M" in verdict(fast, "Q8_0").reason


def test_where_speed_comes_last_the_target_costs_no_quality() -> None:
    both = [candidate("Q8_0", option("Q8_0", 80, 3)), candidate("Q4_K_M", option("Q4_K_M", 40, 30))]
    assert taken(ask(*both, use_case=case(prefers="quality context speed"))) == "Q8_0"
    assert taken(ask(*both, use_case=case(prefers="quality speed context"))) == "Q4_K_M"


def test_losses_that_do_not_show_leave_it_to_speed() -> None:
    choice = ask(candidate("F16", option("F16", 90, 11)), candidate("Q8_0", option("Q8_0", 50, 19)))
    assert taken(choice) == "Q8_0"
    assert "the answers would not differ" in verdict(choice, "F16").reason
    unknown = ask(candidate("F16", option("F16", 90)), candidate("Q8_0", option("Q8_0", 50)))
    assert taken(unknown) == "Q8_0"
    assert verdict(unknown, "F16").reason == (
        "fits, but needs more memory than Q8_0, and the answers would not differ: KLD 0.000 against 0.001"
    )


def test_a_speed_that_is_not_known_counts_as_enough_and_is_said() -> None:
    choice = ask(candidate("Q8_0", option("Q8_0", 80)), candidate("Q4_K_M", option("Q4_K_M", 40, 30)))
    assert taken(choice) == "Q8_0"
    assert verdict(choice, "Q8_0").reason.startswith("the best quality that fits, its speed is not known: needs")


def test_types_without_figures_are_ranked_by_their_bits() -> None:
    odd = replace(option("Q4_K_M", 50), quality=Quality(None, None, None, 7.5, "not known", False))
    poor = replace(option("Q4_K_M", 20), quality=Quality(None, None, None, 2.2, "not known", False))
    choice = ask(
        candidate("Q4_K_M", option("Q4_K_M", 40)), candidate("XQ7", odd), candidate("XQ2", poor), candidate("Q6_K")
    )
    assert [one.candidate.name for one in choice.verdicts] == ["XQ7", "Q6_K", "Q4_K_M", "XQ2"]
    assert taken(choice) == "XQ7"


def test_measured_losses_count_only_where_everything_has_been_measured() -> None:
    broken, fine = option("Q6_K", 60, kld=0.9), option("Q4_K_M", 40, kld=0.02)
    assert taken(ask(candidate("Q6_K", broken), candidate("Q4_K_M", fine))) == "Q4_K_M"
    assert taken(ask(candidate("Q6_K", broken), candidate("Q4_K_M", option("Q4_K_M", 40)))) == "Q6_K"
    both = ask(candidate("Q6_K", broken), candidate("Q4_K_M", fine), candidate("Q5_K_M", exists=False))
    assert "measured, count as equal" in both.objective


# Floors


def test_nothing_below_the_floor_is_taken_and_the_refusal_says_what_would_fit() -> None:
    choice = ask(
        candidate("Q4_K_M", option("Q4_K_M", 120)), candidate("Q3_K_M", option("Q3_K_M", 80)), use_case=case("Q4_K_M")
    )
    assert choice.chosen is None
    assert choice.summary == (
        "nothing at or above Q4_K_M fits, the floor of general; the smallest of them, Q4_K_M, needs 120 B + 0 B KV"
        " at 8192, 20 B over the budget of 100 B, 0 B for computing included; Q3_K_M would fit: it needs 80 B"
        " + 0 B KV at 8192, but is below Q4_K_M, the floor of general: KLD 0.084 against 0.028"
    )
    assert verdict(choice, "Q3_K_M").fits
    assert not verdict(choice, "Q4_K_M").fits


def test_no_floor_applies_to_a_variant_that_was_named() -> None:
    both = [candidate("Q8_0", option("Q8_0", 80)), candidate("Q2_K", option("Q2_K", 20))]
    choice = ask(*both, use_case=case("Q5_K_M"), names=frozenset({"Q2_K"}))
    assert taken(choice) == "Q2_K"
    assert verdict(choice, "Q2_K").reason.startswith("asked for, and it fits: needs 20 B")
    assert verdict(choice, "Q8_0").reason == "fits, but Q2_K was asked for"


def test_a_named_variant_that_does_not_fit_is_refused_and_others_are_told() -> None:
    choice = ask(
        candidate("Q8_0", option("Q8_0", 180)), candidate("Q4_K_M", option("Q4_K_M", 40)), names=frozenset({"Q8_0"})
    )
    assert choice.chosen is None
    assert choice.summary.startswith("Q8_0 does not fit; the smallest of them, Q8_0, needs 180 B")
    assert choice.summary.endswith("Q4_K_M would fit: it needs 40 B + 0 B KV at 8192, but was not asked for")
    absent = ask(candidate("Q8_0", option("Q8_0", 80)), names=frozenset({"Q9_9"}))
    assert absent.summary.startswith("Q9_9 is not among what can be loaded")


def test_fewer_slots_come_before_a_cache_that_takes_a_named_variant_below_the_floor() -> None:
    packed, plain = option("F16", 50, kv_type="q4_0"), option("F16", 50, slots=1)
    choice = ask(candidate("F16", packed, plain), use_case=case("Q5_K_M"), names=frozenset({"F16"}))
    assert setting_of(choice) == plain.setting
    assert choice.summary.endswith(
        "1 slot instead of 4: F16 does not fit at 8192 with 4 slots without a KV cache that takes it below Q5_K_M"
    )
    alone = ask(candidate("F16", packed), use_case=case("Q5_K_M"), names=frozenset({"F16"}))
    assert setting_of(alone) == packed.setting


def test_the_floor_is_for_variant_and_cache_together() -> None:
    plain, packed = option("Q4_K_M", 120), option("Q4_K_M", 90, kv_type="q4_0")
    choice = ask(candidate("Q4_K_M", plain, packed), use_case=case("Q4_K_M"))
    assert choice.chosen is None
    assert verdict(choice, "Q4_K_M").near_misses == (
        "fits with q4_0 KV: KLD +0.117, which is below the floor of Q4_K_M",
    )
    slight = ask(candidate("Q4_K_M", plain, option("Q4_K_M", 95, kv_type="q8_0")), use_case=case("Q4_K_M"))
    assert setting_of(slight).kv_type == "q8_0"
    pinned = ask(candidate("Q4_K_M", plain, packed), use_case=case("Q4_K_M"), kv_type="q4_0")
    assert pinned.chosen is None
    assert verdict(pinned, "Q4_K_M").fits
    assert "is below Q4_K_M, the floor of general: KLD 0.145 against 0.028" in verdict(pinned, "Q4_K_M").reason


# KV types


def test_a_plain_cache_comes_first_where_the_loss_is_of_one_step() -> None:
    choice = ask(candidate("Q4_K_M", option("Q4_K_M", 40, 20, kv_type="q8_0"), option("Q4_K_M", 50, 15)))
    assert setting_of(choice).kv_type == "f16"


def test_a_quantized_cache_competes_by_the_sum_of_losses() -> None:
    smaller = candidate("Q4_K_S", option("Q4_K_S", 95, kv=5))
    larger = candidate("Q4_K_M", option("Q4_K_M", 97, kv=5), option("Q4_K_M", 97, kv=3, kv_type="q8_0"))
    llama = ask(smaller, larger)
    assert (taken(llama), setting_of(llama).kv_type) == ("Q4_K_M", "q8_0")
    assert "needs 97 B + 3 B q8_0 KV at 8192 (KLD +0.001)" in verdict(llama, "Q4_K_M").reason
    wish = Wish(case(), 8192, 4)
    other = choose([smaller, larger], RAM_100, wish, table=TABLE, architecture="qwen3")
    assert (taken(other), setting_of(other).kv_type) == ("Q4_K_S", "f16")
    assert verdict(other, "Q4_K_M").reason == (
        "fits with q8_0 KV (KLD +0.040), but keeps less quality than Q4_K_S: KLD 0.068 against 0.032"
    )


# What cannot be taken


def test_a_variant_that_does_not_exist_is_judged_and_never_taken() -> None:
    choice = ask(
        candidate("Q8_0", option("Q8_0", 80), exists=False),
        candidate("Q6_K", option("Q6_K", 140), exists=False),
        candidate("Q4_K_M", option("Q4_K_M", 40)),
    )
    assert taken(choice) == "Q4_K_M"
    assert verdict(choice, "Q8_0").fits
    assert verdict(choice, "Q8_0").reason.startswith("fits, but a quantization would have to make it first: needs 80 B")
    assert verdict(choice, "Q6_K").reason.endswith("; a quantization would have to make it first")
    alone = ask(candidate("Q8_0", option("Q8_0", 80), exists=False))
    assert (alone.chosen, alone.summary) == (None, "there is nothing that can be loaded")


def test_a_variant_with_a_problem_is_never_taken_nor_the_smallest() -> None:
    broken = candidate("Q6_K", option("Q6_K", 50), problem="shards are missing")
    choice = ask(broken, candidate("Q8_0", option("Q8_0", 80)))
    assert (taken(choice), verdict(choice, "Q6_K").reason) == ("Q8_0", "shards are missing")
    assert choice.smallest() is choice.chosen
    assert choice.smallest({"Q6_K"}) is None
    assert ask().verdicts == ()
    unknown = ask(candidate("Q8_0"))
    assert verdict(unknown, "Q8_0").reason == "what it needs is not known"


def test_a_context_that_was_not_planned_is_said() -> None:
    short = candidate("Q6_K", option("Q6_K", 50, context_tokens=2048), name="short")
    choice = ask(short, candidate("Q4_K_M", option("Q4_K_M", 60)))
    assert taken(choice) == "Q4_K_M"
    assert verdict(choice, "short").reason == "is planned only for 4 slots and 2048 tokens of context"


# The whole


def test_the_objective_is_stated() -> None:
    choice = ask(budgets=GPU, use_case=case("Q4_K_M", target=8), context_pinned=True)
    assert choice.objective == (
        "general: never below Q4_K_M; 4 slots; 8192 tokens of context (pinned); then everything on the accelerators;"
        " then the best quality at 8 tokens/s or more, then, below that, Q4_K_M or better and speed;"
        " KLDs less than 0.002 apart, by type, count as equal"
    )


@pytest.mark.parametrize("name", [one.name for one in CASES.all])
def test_each_use_case_states_its_own_objective(name: str) -> None:
    stated = {one.name: ask(use_case=one).objective for one in CASES.all}
    assert stated[name].startswith(f"{name}: never below {CASES.get(name).floor}; ")
    assert len(set(stated.values())) == len(stated)
