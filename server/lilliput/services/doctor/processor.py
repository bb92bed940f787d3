"""What to think of the processor: the number of threads, AMX that is announced and refused, heat and clocks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from lilliput.hardware import Accelerator, Cpu, Heat
from lilliput.services.doctor.finding import Evidence, Opinion, percent

SLOW_CLOCK = 0.7
"""Below this share of its highest clock a processor at work is slow: clocks with all cores busy are above it."""

_HOT_C = 3.0
"""Degrees below the limit of a sensor at which it counts as reached."""

_COOL = "let air in, clean fans, or lower LILLIPUT_THREADS"
_HARD = ("heat (hardware)", "hardware slowdown (heat or power)", "external power brake")


def judge_threads(chosen: int | None, cpu: Cpu, engines: Mapping[str, str]) -> Opinion:
    """Whether the number of computing threads suits the cores; ``engines`` gives the threads of engines that differ."""
    best = cpu.compute_threads
    threads = chosen or best
    evidence: Evidence = {
        "threads": threads,
        "set": chosen is not None,
        "best_threads": best,
        "physical_cores": cpu.physical_cores,
        "logical_cores": cpu.logical_cores,
        "usable_cores": cpu.usable_cores,
        "performance_cores": cpu.performance_cores,
        "engines": [f"{model}: {count}" for model, count in engines.items()],
    }
    cores = f"{cpu.physical_cores or 'unknown'} physical cores, {cpu.usable_cores} usable"
    remedy = f"unset LILLIPUT_THREADS, or set it to {best}"
    if threads > cpu.usable_cores:
        reason = f"{threads} threads on {cores}: they take turns, and each step waits for the last"
        return Opinion("warning", reason, evidence, remedy)
    if threads > best:
        return Opinion("warning", f"{threads} threads on {cores}: more than compute well ({best})", evidence, remedy)
    if 2 * threads <= best:
        return Opinion("warning", f"{threads} threads on {cores}: {best} would be faster", evidence, remedy)
    return Opinion("ok", f"{threads} threads on {cores}", evidence)


def judge_amx(simd: Collection[str] | None, rungs: Iterable[str]) -> Opinion:
    """Whether AMX is announced and works; ``rungs`` are the safe settings that held for the kinds of file run yet."""
    held = sorted(set(rungs))
    announced = None if simd is None else any(flag.startswith("amx") for flag in simd)
    evidence: Evidence = {"announced": announced, "rungs": held}
    if "no-extra-buffers" in held:
        return Opinion(
            "warning",
            "engines crashed with faster settings and run with the safest ones (no-extra-buffers): prompts are slow",
            evidence,
            "install again for this processor (`make install`); the daemon's log has what crashed",
        )
    if "no-amx" in held:
        return Opinion(
            "warning",
            "the processor announces AMX, and using it crashes: engines run without it (no-amx)",
            evidence,
            "nothing needs to be done; to have AMX, the hypervisor must allow it to this machine",
        )
    if announced is None:
        return Opinion("unknown", "this system does not tell what the processor announces", evidence)
    if not announced:
        return Opinion("ok", "the processor announces no AMX", evidence)
    if held:
        return Opinion("ok", "the processor announces AMX, and engines run with it", evidence)
    return Opinion(
        "unknown",
        "the processor announces AMX; whether it works is found out when a model is first loaded",
        evidence,
        "load one: `lilliput run smollm2 hello`",
    )


def judge_heat(before: Heat, after: Heat, accelerators: Iterable[Accelerator], *, busy: bool) -> Opinion:
    """Whether something is held back between two readings; ``busy``: an engine was at work all the while."""
    slowed = {one.name: one.nvidia.throttle_reasons or () for one in accelerators if one.nvidia is not None}
    hottest = max(after.zones, key=lambda zone: zone.temperature_c, default=None)
    events = _more(before.throttle_events, after.throttle_events)
    share = None if not after.clock_hz or not after.full_clock_hz else after.clock_hz / after.full_clock_hz
    evidence: Evidence = {
        "hottest_c": None if hottest is None else hottest.temperature_c,
        "new_throttle_events": events,
        "throttle_events": after.throttle_events,
        "clock_hz": after.clock_hz,
        "full_clock_hz": after.full_clock_hz,
        "allowed_clock_hz": after.allowed_clock_hz,
        "thermal_level": after.thermal_level,
        "accelerators": [f"{name}: {', '.join(reasons) or 'not slowed'}" for name, reasons in slowed.items()],
        "busy": busy,
    }
    hard = [f"{name}: {reason}" for name, reasons in slowed.items() for reason in reasons if reason in _HARD]
    if hard:
        return Opinion(
            "problem", f"an accelerator is slowed down by {'; '.join(hard)}", evidence, "check its cooling and power"
        )
    if events or after.thermal_level:
        what = f"{events} times in a moment" if events else f"to thermal level {after.thermal_level}"
        return Opinion("problem", f"the processor slows itself down for heat, {what}", evidence, _COOL)
    soft = _soft(after, slowed, share, busy=busy)
    if soft is not None:
        return Opinion("warning", soft[0], evidence, soft[1])
    if not after.known and not slowed:
        return Opinion(
            "unknown", "this system tells neither temperatures nor clocks (virtual machines seldom do)", evidence
        )
    told = [] if hottest is None else [f"{hottest.temperature_c:.0f} °C at most"]
    told += [f"the clock is at {percent(share)}"] if share is not None else []
    return Opinion("ok", f"nothing is slowed down{': ' if told else ''}{', '.join(told)}", evidence)


def _soft(
    after: Heat, slowed: Mapping[str, Iterable[str]], share: float | None, *, busy: bool
) -> tuple[str, str] | None:
    """What may become worse, or was set by somebody: the reason and the remedy."""
    for zone in after.zones:
        if zone.limit_c is not None and zone.temperature_c >= zone.limit_c - _HOT_C:
            return f"{zone.name} is at {zone.temperature_c:.0f} °C, its limit is {zone.limit_c:.0f} °C", _COOL
    for name, reasons in slowed.items():
        if "heat (driver)" in reasons:
            return f"{name} is slowed down by heat", "check its cooling"
    if after.allowed_clock_hz and after.full_clock_hz and after.allowed_clock_hz < SLOW_CLOCK * after.full_clock_hz:
        allowed = percent(after.allowed_clock_hz / after.full_clock_hz)
        return f"a setting keeps the processor at {allowed} of its clock", "take a faster power profile"
    if busy and share is not None and share < SLOW_CLOCK:
        return f"the processor is at work at {percent(share)} of its clock", f"take a faster power profile; {_COOL}"
    return None


def _more(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else max(0, after - before)
