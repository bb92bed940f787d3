from __future__ import annotations

import signal

import pytest

from lilliput.engine.safety import climb_down, verdict_key
from lilliput.errors import EngineDied, EngineLoadFailed
from lilliput.llama import RUNGS, Rung


class Facts:
    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    def get_fact(self, key: str) -> str | None:
        return self.kept.get(key)

    def set_fact(self, key: str, value: str) -> None:
        self.kept[key] = value


class Machine:
    """A machine on which some rungs crash."""

    def __init__(self, crashing: set[str], number: int = signal.SIGSEGV) -> None:
        self.crashing = crashing
        self.number = number
        self.tried: list[tuple[str, bool]] = []

    async def attempt(self, rung: Rung, proven: bool) -> str:
        self.tried.append((rung, proven))
        if rung in self.crashing:
            raise EngineDied("crash", signal_number=self.number)
        return f"ran with {rung}"


def ignore(rung: Rung, error: EngineDied) -> None:
    del rung, error


async def test_a_crash_leads_to_safer_settings_which_are_remembered() -> None:
    facts, machine = Facts(), Machine({"native"})
    crashes: list[Rung] = []
    result, rung = await climb_down(machine.attempt, "k", facts, lambda r, _e: crashes.append(r), RUNGS)
    assert (result, rung) == ("ran with no-amx", "no-amx")
    assert crashes == ["native"]
    assert facts.kept == {"k": "no-amx"}
    machine.tried.clear()
    await climb_down(machine.attempt, "k", facts, ignore, RUNGS)
    assert machine.tried == [("no-amx", True)]


async def test_settings_that_hold_are_proven_once() -> None:
    facts, machine = Facts(), Machine(set())
    await climb_down(machine.attempt, "k", facts, ignore, RUNGS)
    await climb_down(machine.attempt, "k", facts, ignore, RUNGS)
    assert machine.tried == [("native", False), ("native", True)]


async def test_a_crash_on_the_last_rung_is_told_and_not_remembered() -> None:
    facts, machine = Facts(), Machine(set(RUNGS))
    with pytest.raises(EngineDied):
        await climb_down(machine.attempt, "k", facts, ignore, RUNGS)
    assert facts.kept == {}


async def test_a_kill_from_outside_is_no_verdict_on_the_settings() -> None:
    facts, machine = Facts(), Machine({"native"}, number=signal.SIGKILL)
    with pytest.raises(EngineDied):
        await climb_down(machine.attempt, "k", facts, ignore, RUNGS)
    assert machine.tried == [("native", False)]


async def test_a_refused_file_is_not_tried_again_with_other_settings() -> None:
    async def refuse(rung: Rung, proven: bool) -> str:
        raise EngineLoadFailed("broken file")

    with pytest.raises(EngineLoadFailed):
        await climb_down(refuse, "k", Facts(), ignore, RUNGS)


async def test_a_proven_rung_that_crashes_after_all_leads_further_down() -> None:
    facts, machine = Facts(), Machine({"native"})
    facts.kept["k"] = "native"
    _, rung = await climb_down(machine.attempt, "k", facts, ignore, RUNGS)
    assert rung == "no-amx"
    assert facts.kept["k"] == "no-amx"


async def test_rungs_that_this_machine_does_not_have_are_passed_over() -> None:
    facts, machine = Facts(), Machine({"native"})
    facts.kept["k"] = "no-amx"
    _, rung = await climb_down(machine.attempt, "k", facts, ignore, ("native", "no-extra-buffers"))
    assert rung == "no-extra-buffers"
    assert machine.tried == [("native", False), ("no-extra-buffers", False)]


async def test_where_amx_is_not_the_fault_nothing_is_repacked_either() -> None:
    facts, machine = Facts(), Machine({"native", "no-amx"})
    await climb_down(machine.attempt, "k", facts, ignore, RUNGS)
    assert machine.tried == [(rung, False) for rung in RUNGS]
    assert facts.kept == {"k": "no-extra-buffers"}


def test_the_key_does_not_depend_on_the_order_of_tensor_types() -> None:
    assert verdict_key("m", "b", ["Q4_1", "F32"]) == verdict_key("m", "b", ["F32", "Q4_1"])
