"""What readings of memory ask for: signs, steps and how much time lies between them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

import pytest

from lilliput.hardware import Level, Memory, Pressure, Stalls
from lilliput.pool.pressure import (
    AGAIN_S,
    ALL_WAIT,
    BUSY_APART_S,
    BUSY_HOLD_S,
    CALM_S,
    HOLD_S,
    SETTLE_S,
    SOME_WAIT,
    SWAPPED_IN_BYTES_S,
    WINDOW_S,
    Advice,
    Judge,
    Relief,
    Stock,
)
from lilliput.units import GIB, MIB

LOW = 256 * MIB
ALL = Stock(prefixes=True, idle=True, ready=True)
CALM = Memory(8 * GIB, 4 * GIB, 8 * GIB)


@dataclass
class Machine:
    """Readings once a second; what stalls and what comes from swap is a share of each second."""

    judge: Judge = field(default_factory=lambda: Judge(LOW))
    at_s: float = 0.0
    group: tuple[float, float] = (0.0, 0.0)
    system: tuple[float, float] = (0.0, 0.0)
    swapped: float = 0.0

    def second(
        self,
        *,
        some: float = 0.0,
        full: float = 0.0,
        everywhere: float = 0.0,
        swapped: float = 0.0,
        memory: Memory = CALM,
        level: Level | None = None,
        stock: Stock = ALL,
    ) -> Advice:
        self.at_s += 1.0
        self.group = self.group[0] + some, self.group[1] + full
        self.system = self.system[0] + everywhere, self.system[1]
        self.swapped += swapped
        reading = Pressure(
            self.at_s,
            memory,
            system=_stalls(*self.system),
            group=_stalls(*self.group),
            level=level,
            swapped_in_bytes=round(self.swapped),
        )
        return self.judge.look(reading, stock)

    def steps(self, seconds: int, *, stock: Stock = ALL, **signs: float) -> list[tuple[float, Relief]]:
        """The steps of so many equal seconds, and when they came."""
        start_s, found = self.at_s, []
        for _ in range(seconds):
            advice = self.second(stock=stock, **signs)  # type: ignore[arg-type]
            if advice.step is not None:
                found.append((self.at_s - start_s, advice.step))
        return found


def _stalls(some_s: float, full_s: float) -> Stalls:
    return Stalls(0.0, 0.0, some_s, 0.0, 0.0, full_s)


def little(available: int, total: int = 8 * GIB) -> Memory:
    return Memory(total, available, total)


@pytest.mark.parametrize(
    "signs",
    [
        {"some": SOME_WAIT * 0.9, "full": ALL_WAIT * 0.9},
        {"swapped": SWAPPED_IN_BYTES_S * 0.9},
        {"memory": little(LOW)},
        {"everywhere": 0.9},  # others stall at limits of their own: there is much available
        {"level": "normal", "memory": little(0)},  # macOS judges for itself
    ],
)
def test_what_is_below_the_marks_asks_for_nothing(signs: dict[str, float]) -> None:
    machine = Machine()
    assert machine.steps(200, **signs) == []  # type: ignore[arg-type]
    assert machine.second(**signs) == Advice(None, False, "")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("signs", "said"),
    [
        ({"some": SOME_WAIT * 1.1}, "some work waited for memory"),
        ({"full": ALL_WAIT * 1.1, "some": ALL_WAIT * 1.1}, "all work 6%"),
        ({"swapped": SWAPPED_IN_BYTES_S * 1.1}, "4.4 MiB/s came back from swap"),
        ({"memory": little(LOW - MIB)}, "255.0 MiB are available beside the weights in use, less than 256.0 MiB"),
        ({"memory": little(GIB), "stock": replace(ALL, mapped_bytes=900 * MIB)}, "124.0 MiB are available"),
        ({"everywhere": 0.5, "memory": little(GIB // 2)}, "some work waited for memory 50%"),
        ({"level": "warning"}, "the system calls the memory pressure warning"),
    ],
)
def test_each_sign_that_lasts_asks_for_the_cheapest_step_and_says_why(signs: dict[str, object], said: str) -> None:
    machine = Machine()
    advice = [machine.second(**signs) for _ in range(8)]  # type: ignore[arg-type]
    taken = [one for one in advice if one.step]
    assert taken[0].step == "drop"
    assert said in taken[0].because
    assert taken[0].pressed


def test_a_moment_is_no_sign() -> None:
    machine = Machine()
    for _ in range(20):
        assert machine.second(memory=little(0)).step is None
        assert machine.second(memory=little(0)).step is None
        assert machine.second().pressed is False


def test_the_steps_come_in_their_order_and_each_has_time_to_show_what_it_helped() -> None:
    steps = Machine().steps(40, memory=little(0))  # type: ignore[arg-type]
    assert [step for _, step in steps[:3]] == ["drop", "evict", "evict"]
    assert steps[0][0] == HOLD_S + 1
    gaps = [later - before for (before, _), (later, _) in itertools.pairwise(steps)]
    assert min(gaps) >= SETTLE_S
    dropped = [at for at, step in steps if step == "drop"]
    assert dropped[1] - dropped[0] >= AGAIN_S


def test_a_busy_engine_steps_down_only_when_nothing_else_is_left_and_seldom() -> None:
    steps = Machine().steps(200, memory=little(0), stock=Stock(ready=True))  # type: ignore[arg-type]
    assert {step for _, step in steps} == {"step-down"}
    assert steps[0][0] == BUSY_HOLD_S + 1
    assert all(later - before >= BUSY_APART_S for (before, _), (later, _) in itertools.pairwise(steps))
    assert len(steps) == 4


def test_macos_must_call_it_critical_before_users_notice() -> None:
    assert Machine().steps(100, level="warning", stock=Stock(ready=True)) == []  # type: ignore[arg-type]
    assert Machine().steps(20, level="critical", stock=Stock(ready=True)) == [(11.0, "step-down")]  # type: ignore[arg-type]


def test_without_anything_to_give_it_is_said_all_the_same() -> None:
    machine = Machine()
    assert machine.steps(30, memory=little(0), stock=Stock()) == []  # type: ignore[arg-type]
    assert machine.second(memory=little(0), stock=Stock()).pressed


def test_it_is_over_only_when_all_signs_have_been_far_from_their_marks_for_long() -> None:
    machine = Machine()
    machine.steps(5, memory=little(0))  # type: ignore[arg-type]
    between = little(LOW * 3 // 2)
    held = [machine.second(memory=between) for _ in range(200)]
    assert {(one.step, one.pressed) for one in held} == {(None, True)}
    calm = [machine.second().pressed for _ in range(int(CALM_S) + 2)]
    assert calm.index(False) == CALM_S - 1
    assert not any(calm[calm.index(False) :])


def test_signs_around_their_mark_cause_no_more_steps_than_signs_that_last() -> None:
    machine, steps = Machine(), []
    for second in range(600):
        advice = machine.second(memory=little(LOW - 1 if second % 10 < 6 else LOW + 1))
        steps += [advice.step] if advice.step else []
    assert len(steps) <= 600 / (SETTLE_S + WINDOW_S)


def test_a_system_that_counts_no_stalls_and_no_swap_is_judged_by_what_is_available() -> None:
    judge = Judge(LOW)
    windows = [judge.look(Pressure(float(second), little(LOW // 2)), ALL) for second in range(8)]
    assert [one.step for one in windows if one.step] == ["drop", "evict"]
    assert judge.look(Pressure(100.0, CALM), ALL).step is None
