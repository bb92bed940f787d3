from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.fit.headers import LLAMA_70B

from lilliput.fit import Budget, Candidate, Choice, MemoryNeed, choose, estimate_need, quality_rank, shape_of
from lilliput.units import GIB, MIB

# Published sizes of one repository of Llama 3.1 70B, in decimal megabytes.
SIZES_70B = {
    "F16": 141_120,
    "Q8_0": 74_980,
    "Q6_K": 57_890,
    "Q5_K_M": 49_950,
    "Q4_K_M": 42_520,
    "Q4_K_S": 40_350,
    "Q3_K_M": 34_270,
    "Q2_K": 26_380,
}


def budget(size: int, *, limit: int | None = None) -> Budget:
    return Budget(total_bytes=1024 * GIB, available_bytes=size, reserve_bytes=0, use_fraction=1.0, limit_bytes=limit)


def seventy(context: int = 8192) -> list[Candidate]:
    shape = shape_of(LLAMA_70B)
    return [
        Candidate(
            name,
            name,
            size * 10**6,
            estimate_need(shape, size * 10**6, context, 1),
            smaller=tuple((c, estimate_need(shape, size * 10**6, c, 1)) for c in (4096, 2048, 1024)),
        )
        for name, size in SIZES_70B.items()
    ]


def candidate(name: str, size: int, *, problem: str | None = None) -> Candidate:
    return Candidate(name, name, size, MemoryNeed(size, 0, 0, 0), problem=problem)


def taken(choice: Choice) -> str | None:
    return None if choice.chosen is None else choice.chosen.candidate.name


def reasons(choice: Choice) -> dict[str, str]:
    return {verdict.candidate.name: verdict.reason for verdict in choice.verdicts}


@pytest.mark.parametrize(
    ("gib", "name"),
    [
        (20, None),
        (28, "Q2_K"),
        (40, "Q3_K_M"),
        (43, "Q4_K_M"),
        (52, "Q5_K_M"),
        (64, "Q6_K"),
        (80, "Q8_0"),
        (500, "Q8_0"),
    ],
)
def test_the_best_that_fits_is_taken(gib: int, name: str | None) -> None:
    assert taken(choose(seventy(), budget(gib * GIB), context_tokens=8192)) == name


def test_every_variant_has_a_reason_in_words_and_numbers() -> None:
    said = reasons(choose(seventy(), budget(43 * GIB), context_tokens=8192))
    assert said["Q5_K_M"] == (
        "needs 46.5 GiB + 2.5 GiB KV at 8192 + 395.9 MiB for computing, 6.4 GiB over the budget of 43.0 GiB"
    )
    assert said["Q4_K_M"].startswith("the best quality that fits: needs 39.6 GiB + 2.5 GiB KV at 8192")
    assert said["Q4_K_M"].endswith("under the budget")
    assert said["Q2_K"] == "fits, but Q4_K_M keeps more quality"


def test_a_near_miss_says_at_which_context_it_would_fit() -> None:
    said = reasons(choose(seventy(), budget(int(41.5 * GIB)), context_tokens=8192))
    assert said["Q4_K_M"].endswith("over the budget of 41.5 GiB; fits at 4096")
    assert "fits at" not in said["Q6_K"]


def test_full_precision_is_taken_only_when_nothing_is_quantized() -> None:
    both = choose([candidate("F16", 100), candidate("Q4_0", 30)], budget(1000), context_tokens=512)
    assert taken(both) == "Q4_0"
    assert "name it to have it" in reasons(both)["F16"]
    alone = choose([candidate("F16", 100), candidate("F32", 200)], budget(150), context_tokens=512)
    assert taken(alone) == "F16"
    neither = choose([candidate("F16", 100), candidate("Q4_0", 3000)], budget(1000), context_tokens=512)
    assert taken(neither) is None
    small = choose([candidate("BF16", 20), candidate("Q4_0", 30)], budget(1000), context_tokens=512)
    assert reasons(small)["BF16"] == "fits, but full precision is taken only when it is asked for"


def test_nothing_above_q8_0_is_taken_unasked() -> None:
    names = [candidate("UD-Q8_K_XL", 110), candidate("Q8_0", 100), candidate("Q6_K", 80)]
    assert taken(choose(names, budget(1000), context_tokens=512)) == "Q8_0"
    assert taken(choose(names[:1] + names[2:], budget(1000), context_tokens=512)) == "UD-Q8_K_XL"


def test_a_pinned_variant_is_taken_or_nothing_is() -> None:
    assert taken(choose(seventy(), budget(500 * GIB), context_tokens=8192, pinned=["F16"])) == "F16"
    small = choose(seventy(), budget(43 * GIB), context_tokens=8192, pinned=["Q6_K"])
    assert taken(small) is None
    assert reasons(small)["Q4_K_M"] == "fits, but Q6_K was asked for"
    asked = reasons(choose(seventy(), budget(64 * GIB), context_tokens=8192, pinned=["Q4_K_M"]))["Q4_K_M"]
    assert asked.startswith("asked for, and it fits: needs 39.6 GiB")


def test_of_several_that_were_asked_for_the_best_is_taken() -> None:
    choice = choose(seventy(), budget(43 * GIB), context_tokens=8192, pinned=["Q4_K_S", "Q4_K_M"])
    assert taken(choice) == "Q4_K_M"
    assert reasons(choice)["Q4_K_S"] == "fits, but Q4_K_M keeps more quality"


def test_a_variant_with_a_problem_is_never_taken_nor_the_smallest() -> None:
    broken = candidate("Q6_K", 50, problem="shards are missing")
    choice = choose([broken, candidate("Q8_0", 100)], budget(1000), context_tokens=512)
    assert (taken(choice), reasons(choice)["Q6_K"]) == ("Q8_0", "shards are missing")
    assert choice.smallest() == candidate("Q8_0", 100)
    assert choice.smallest({"Q6_K"}) is None
    nothing = choose([broken], budget(1000), context_tokens=512)
    assert (nothing.chosen, nothing.smallest()) == (None, None)


def test_types_that_waste_bytes_lose_against_better_ones_of_less_size() -> None:
    assert quality_rank("Q4_K_S", 467) > quality_rank("Q4_1", 510)
    assert quality_rank("IQ3_XXS", 325) > quality_rank("Q3_K_S", 364)
    assert quality_rank("Q5_K_S", 557) > quality_rank("Q5_1", 600)
    assert quality_rank(None, 100) == 100


def test_the_parts_of_a_budget_bound_it_and_are_named() -> None:
    machine = Budget(total_bytes=32 * GIB, available_bytes=24 * GIB, reserve_bytes=GIB, use_fraction=0.8)
    assert (machine.budget_bytes, machine.because) == (23 * GIB, "24.0 GiB available less 1.0 GiB in reserve")
    roomy = replace(machine, available_bytes=31 * GIB)
    assert (roomy.budget_bytes, roomy.because) == (int(25.6 * GIB), "80% of 32.0 GiB")
    capped = replace(machine, limit_bytes=600 * MIB)
    assert (capped.budget_bytes, capped.because) == (600 * MIB, "the limit set is 600.0 MiB")
    assert replace(machine, available_bytes=0).budget_bytes == 0


TYPES = ["F16", "BF16", "Q8_0", "Q6_K", "Q5_1", "Q4_K_M", "Q4_1", "Q4_0", "Q3_K_S", "IQ2_M", "UD-Q4_K_XL"]
CANDIDATES = st.lists(
    st.builds(
        lambda kind, size, kv, broken: Candidate(
            kind, kind, size, MemoryNeed(size, kv, 0, 0), problem="broken" if broken else None
        ),
        st.sampled_from(TYPES),
        st.integers(1, 1000),
        st.integers(0, 100),
        st.booleans(),
    ),
    max_size=8,
    unique_by=lambda one: one.name,
)
PIN = st.none() | st.frozensets(st.sampled_from(TYPES), min_size=1, max_size=2)


@given(CANDIDATES, st.integers(0, 1200), st.integers(0, 1200), PIN)
def test_more_memory_never_gives_a_worse_choice(
    candidates: list[Candidate], size: int, more: int, pinned: frozenset[str] | None
) -> None:
    less = choose(candidates, budget(size), context_tokens=512, pinned=pinned).chosen
    better = choose(candidates, budget(size + more), context_tokens=512, pinned=pinned).chosen
    if less is not None:
        assert better is not None
        first, second = less.candidate, better.candidate
        assert quality_rank(second.quantization, second.file_bytes) >= quality_rank(
            first.quantization, first.file_bytes
        )


@given(CANDIDATES, st.integers(0, 1200), st.none() | st.integers(0, 1200), PIN)
def test_the_chosen_never_exceeds_the_budget_nor_changes_what_was_pinned(
    candidates: list[Candidate], size: int, limit: int | None, pinned: frozenset[str] | None
) -> None:
    bound = budget(size, limit=limit)
    choice = choose(candidates, bound, context_tokens=512, pinned=pinned)
    assert len(choice.verdicts) == len(candidates)
    assert all(verdict.reason for verdict in choice.verdicts)
    if choice.chosen is not None:
        assert choice.chosen.fits
        assert choice.chosen.candidate.problem is None
        assert choice.chosen.candidate.need.total_bytes <= bound.budget_bytes <= size
        assert pinned is None or choice.chosen.candidate.name in pinned


@given(CANDIDATES.flatmap(lambda found: st.tuples(st.just(found), st.permutations(found))), st.integers(0, 1200))
def test_the_choice_does_not_depend_on_the_order(both: tuple[list[Candidate], list[Candidate]], size: int) -> None:
    one, other = (choose(candidates, budget(size), context_tokens=512) for candidates in both)
    assert one == other
