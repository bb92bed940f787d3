"""What to think of memory: how full it is, who waits for it, what comes back from swap, which container limits it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lilliput.hardware import CgroupMemory, Cpu, Memory, Pressure
from lilliput.services.doctor.finding import Evidence, Opinion, Verdict, percent
from lilliput.units import MIB, format_bytes

FULL, VERY_FULL = 0.80, 0.95
"""Shares of memory in use from which it is a warning, and a problem."""

SOME_WAIT, MUCH_WAIT, ALL_WAIT = 10.0, 40.0, 10.0
"""Per cent of the last 10 seconds: some work waited (a warning, a problem), all work waited (a problem)."""

SWAPPED_BYTES_S = MIB
"""More than this from swap each second while an engine works is not a page or two of somebody else."""

_LESS = "unload models (`lilliput ps`, `lilliput stop MODEL`), or let them have less: LILLIPUT_MEMORY_LIMIT"

_LEVELS: Mapping[str, Verdict] = {"normal": "ok", "warning": "warning", "critical": "problem"}
"""What macOS' words for it mean."""


def judge_use(memory: Memory, engines_bytes: int) -> Opinion:
    """How much memory is in use; page cache that can be had back, mapped weights too, does not count."""
    used_bytes = memory.total_bytes - memory.available_bytes
    share = used_bytes / max(1, memory.total_bytes)
    verdict: Verdict = "problem" if share > VERY_FULL else "warning" if share > FULL else "ok"
    return Opinion(
        verdict,
        f"{percent(share)} of {format_bytes(memory.total_bytes)} are in use, "
        f"{format_bytes(memory.available_bytes)} available; engines hold {format_bytes(engines_bytes)}",
        {
            "total_bytes": memory.total_bytes,
            "available_bytes": memory.available_bytes,
            "used_percent": round(100 * share, 1),
            "engines_bytes": engines_bytes,
            "limited_by": memory.limited_by,
        },
        None if verdict == "ok" else f"{_LESS}; or close other programs",
    )


def judge_pressure(pressure: Pressure) -> Opinion:
    """Whether work stands still for want of memory: the kernel's own count, or macOS' word."""
    stalls = pressure.worst
    if stalls is None:
        if pressure.level is None:
            return Opinion(
                "unknown",
                "this system does not count stalls for memory",
                remedy="on Linux, boot with psi=1 (kernel 4.20 or newer)",
            )
        level = _LEVELS[pressure.level]
        return Opinion(
            level,
            f"macOS calls the memory pressure {pressure.level}",
            {"level": pressure.level},
            None if level == "ok" else _LESS,
        )
    verdict: Verdict = "ok"
    if stalls.full_avg10 > ALL_WAIT or stalls.some_avg10 > MUCH_WAIT:
        verdict = "problem"
    elif stalls.some_avg10 > SOME_WAIT:
        verdict = "warning"
    return Opinion(
        verdict,
        f"in the last 10 s some work waited for memory {stalls.some_avg10:.1f}% of the time, all work "
        f"{stalls.full_avg10:.1f}%",
        {
            "of": "control group" if stalls is pressure.group else "machine",
            "some_avg10_percent": stalls.some_avg10,
            "some_avg60_percent": stalls.some_avg60,
            "full_avg10_percent": stalls.full_avg10,
            "full_avg60_percent": stalls.full_avg60,
        },
        None if verdict == "ok" else _LESS,
    )


def judge_swap(before: Pressure, after: Pressure, *, busy: bool) -> Opinion:
    """What came back from swap between two readings; ``busy``: an engine was at work all the while."""
    memory = after.memory
    if memory.swap_total_bytes == 0:
        return Opinion("ok", "this machine has no swap", {"swap_total_bytes": 0, "busy": busy})
    rate = after.swapped_in_since(before)
    evidence: Evidence = {
        "swapped_in_bytes_s": None if rate is None else round(rate),
        "watched_s": round(after.at_s - before.at_s, 2),
        "busy": busy,
        "swap_total_bytes": memory.swap_total_bytes,
        "swap_free_bytes": memory.swap_free_bytes,
    }
    if rate is None:
        return Opinion("unknown", "this system does not tell what comes back from swap", evidence)
    shown = f"{format_bytes(round(rate))}/s come back from swap"
    if rate > SWAPPED_BYTES_S and busy:
        return Opinion("problem", f"{shown} while an engine is at work", evidence, _LESS)
    if rate > 0:
        return Opinion("warning", f"{shown}{' while an engine is at work' if busy else ''}", evidence, _LESS)
    doing = "while an engine is at work" if busy else "now (no engine is at work)"
    return Opinion("ok", f"nothing comes back from swap {doing}", evidence)


def judge_container(
    memory: Memory,
    limits: Sequence[CgroupMemory],
    quota_cores: float | None,
    cpu: Cpu,
    threads: int,
    largest_bytes: int,
) -> Opinion:
    """What a container or a service manager grants; ``largest_bytes`` is the largest installed model's files."""
    tightest = min(limits, key=lambda limit: limit.limit_bytes, default=None)
    limit = tightest if tightest is not None and tightest.limit_bytes < memory.host_total_bytes else None
    evidence: Evidence = {
        "memory_limit_bytes": None if limit is None else limit.limit_bytes,
        "memory_limited_by": None if limit is None else limit.path,
        "host_memory_bytes": memory.host_total_bytes,
        "cpu_quota_cores": quota_cores,
        "host_cores": cpu.logical_cores,
        "usable_cores": cpu.usable_cores,
        "threads": threads,
        "largest_model_bytes": largest_bytes,
    }
    if limit is None and quota_cores is None:
        return Opinion("ok", "no control group limits this process", evidence)
    granted = []
    if limit is not None:
        granted.append(f"{format_bytes(limit.limit_bytes)} of {format_bytes(memory.host_total_bytes)}")
    if quota_cores is not None:
        granted.append(f"{quota_cores:g} of {cpu.logical_cores or 'an unknown number of'} processors")
    summary = f"limited to {' and '.join(granted)}"
    if limit is not None and largest_bytes > limit.limit_bytes:
        reason = f"{summary}: the largest installed model, {format_bytes(largest_bytes)}, does not fit"
        return Opinion("warning", reason, evidence, "raise the limit (docker run --memory=SIZE, MemoryMax= of a unit)")
    if quota_cores is not None and threads > quota_cores:
        reason = f"{summary}: {threads} threads get less time than they ask for, and all wait for the last"
        return Opinion(
            "warning", reason, evidence, f"set LILLIPUT_THREADS={max(1, int(quota_cores))}, or raise the quota"
        )
    return Opinion("ok", summary, evidence)
