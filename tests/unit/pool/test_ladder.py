from __future__ import annotations

from dataclasses import replace

import pytest

from lilliput.errors import EngineDied, EngineError, EngineLoadFailed
from lilliput.fit import RAM, MemoryNeed
from lilliput.pool import LoadPlan
from lilliput.pool.ladder import MOST_STEPS, SHRINKING, Concessions, given_up, keeps_to, less_than, memory_is_to_blame

GPU = "Vulkan0"
FAILED = EngineLoadFailed("llama.cpp cannot make a context", log_tail=("failed to allocate buffer of size 9",))


def need(size: int) -> MemoryNeed:
    return MemoryNeed(size, 0, 0, 0)


PLAN = LoadPlan(8192, 4, 6, {RAM: need(1000)}, frozenset(), kv_type="f16")
SPLIT = replace(PLAN, needs={RAM: need(400), GPU: need(1000)}, gpu_layers=20)


@pytest.mark.parametrize(
    ("error", "oom_killed", "blamed"),
    [
        (FAILED, False, True),
        (EngineLoadFailed("refused", log_tail=("mmap failed: Cannot allocate memory",)), False, True),
        (EngineLoadFailed("refused", log_tail=("ErrorOutOfDeviceMemory: out of memory",)), False, True),
        (EngineLoadFailed("refused", log_tail=("unknown model architecture: 'x'",)), True, False),
        (EngineLoadFailed("refused", log_tail=("print_info: no_alloc = 0", "tensor 'x' not found")), False, False),
        (EngineDied("it died", signal_number=9), True, True),
        (EngineDied("it died", signal_number=9), False, False),
        (EngineDied("it died", signal_number=11), True, False),
        (EngineDied("it died", signal_number=6, log_tail=("terminate called: std::bad_alloc",)), False, True),
        (EngineError("alloc"), True, False),
    ],
)
def test_memory_is_blamed_for_what_it_did(error: EngineError, oom_killed: bool, blamed: bool) -> None:
    assert memory_is_to_blame(error, oom_killed=oom_killed) is blamed


def test_accelerators_give_up_first_and_then_main_memory() -> None:
    limits = less_than(SPLIT, {})
    assert limits == {GPU: int(1000 * SHRINKING)}
    limits = less_than(replace(SPLIT, needs={RAM: need(900), GPU: need(800)}, gpu_layers=15), limits)
    assert limits == {GPU: int(800 * SHRINKING)}
    limits = less_than(replace(SPLIT, needs={RAM: need(900)}, gpu_layers=0), limits)
    assert limits == {GPU: int(800 * SHRINKING), RAM: int(900 * SHRINKING)}


def test_a_limit_never_grows() -> None:
    assert less_than(PLAN, {RAM: 100}) == {RAM: 100}


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (SPLIT, replace(SPLIT, gpu_layers=12), "12 instead of 20 layers on accelerators"),
        (PLAN, replace(PLAN, kv_type="q8_0"), "a KV cache in q8_0 instead of f16"),
        (
            PLAN,
            replace(PLAN, kv_type="q8_0", context_tokens=4096, slots=1),
            "a KV cache in q8_0 instead of f16 and a context of 4096 instead of 8192 tokens and 1 instead of 4 slots",
        ),
        (PLAN, replace(PLAN, needs={RAM: need(488)}), "512 B less"),
    ],
)
def test_what_was_given_up_is_told(before: LoadPlan, after: LoadPlan, told: str) -> None:
    assert given_up(before, after) == told


def test_limits_hold_for_the_devices_they_name() -> None:
    assert keeps_to({RAM: need(5), GPU: need(9)}, {RAM: 5})
    assert not keeps_to({RAM: need(6)}, {RAM: 5})
    assert keeps_to({RAM: need(6)}, {})


def test_a_refusal_lists_all_that_was_tried() -> None:
    conceded = Concessions()
    assert conceded.note_plan(PLAN) is None
    assert conceded.note_failure(PLAN, FAILED)
    smaller = replace(PLAN, kv_type="q8_0", needs={RAM: need(800)})
    step = "a KV cache in q8_0 instead of f16 (because llama.cpp cannot make a context)"
    assert conceded.note_plan(smaller) == (PLAN, step)
    assert conceded.note_failure(smaller, FAILED)
    least = replace(smaller, context_tokens=512, needs={RAM: need(700)})
    refusal = conceded.refusal("m", least)
    assert refusal.message == (
        f"m could not be loaded, memory is short: llama.cpp cannot make a context. "
        f"Tried: as it was planned; {step}. There is no smaller way"
    )
    assert (refusal.need_bytes, refusal.budget_bytes) == (700, int(800 * SHRINKING))
    assert "lilliput plan m" in (refusal.hint or "")
    assert conceded.wanted == PLAN


def test_the_ladder_ends() -> None:
    conceded, plan = Concessions(), PLAN
    steps = 0
    while conceded.note_failure(plan, FAILED):
        plan = replace(plan, needs={RAM: need(conceded.limits[RAM])})
        conceded.note_plan(plan)
        steps += 1
    assert steps == MOST_STEPS
    assert conceded.limits[RAM] < 1000 * SHRINKING**MOST_STEPS + 10
    refusal = conceded.refusal("m", plan).message
    assert refusal.count("(because llama.cpp cannot make a context)") == MOST_STEPS
    assert refusal.endswith("Nothing smaller than that is tried")
