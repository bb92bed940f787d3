"""What to think of what was set and what is installed: unusual settings, several builds of llama.cpp."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from lilliput.services.doctor.finding import Evidence, Opinion
from lilliput.units import MIB, counted

_LEAST_SHARE_TOKENS = 1024
_LOOPBACK = ("localhost", "127.", "::1")

Rule = tuple[str, Callable[[Mapping[str, Any]], bool], Callable[[Mapping[str, Any]], str]]

_RULES: tuple[Rule, ...] = (
    (
        "host",
        lambda one: not str(one["host"]).startswith(_LOOPBACK),
        lambda one: f"host {one['host']}: whoever reaches this machine can use and change everything",
    ),
    (
        "context_tokens",
        lambda one: one["context_tokens"] < _LEAST_SHARE_TOKENS * min(one["slots"], 4),
        lambda one: f"context_tokens {one['context_tokens']}: {counted(one['slots'], 'request')} share them",
    ),
    ("slots", lambda one: one["slots"] > 64, lambda one: f"slots {one['slots']}: each step waits for all of them"),
    (
        "keep_alive_s",
        lambda one: one["keep_alive_s"] == 0,
        lambda _: "keep_alive_s 0: every request loads its model anew",
    ),
    (
        "memory_use_fraction",
        lambda one: one["memory_use_fraction"] > 0.95 and one["memory_reserve"] < 256 * MIB,
        lambda _: (
            "memory_use_fraction above 0.95 with little memory_reserve: other programs may be ended for want of memory"
        ),
    ),
    (
        "gap_s",
        lambda one: one["gap_s"] > 1,
        lambda one: f"gap_s {one['gap_s']:g}: streams pause that long for new prompts",
    ),
    (
        "drain_s",
        lambda one: one["drain_s"] > 90,
        lambda _: "drain_s above 90: service managers kill what stops so slowly",
    ),
    (
        "queue_limit",
        lambda one: one["queue_limit"] > 1000,
        lambda _: "queue_limit above 1000: who is refused late waits long",
    ),
)


def judge_settings(settings: Mapping[str, Any]) -> Opinion:
    """Whether a setting does what hardly anybody wants. How tokens are sampled is said by each request alone."""
    unusual = {name: text(settings) for name, applies, text in _RULES if applies(settings)}
    evidence: Evidence = {
        "unusual": list(unusual),
        "speculation": str(settings["speculation"]),
        "sampling": "set by each request",
    }
    if not unusual:
        return Opinion("ok", "nothing unusual is set; sampling is set by each request", evidence)
    return Opinion(
        "warning", "; ".join(unusual.values()), evidence, f"set otherwise: {', '.join(unusual)} (docs/settings.md)"
    )


def judge_build(
    versions: Sequence[str],
    pinned: str | None,
    folders: Sequence[str],
    libraries: Mapping[str, Collection[str]],
    strangers: Sequence[str],
    backends: Collection[str],
) -> Opinion:
    """Whether there is one llama.cpp, and the one this was written for; the arguments are the fields of ``Build``."""
    mixed = {name: sorted(numbers) for name, numbers in libraries.items() if len(set(numbers)) > 1}
    evidence: Evidence = {
        "versions": list(versions),
        "pinned": pinned,
        "folders": list(folders),
        "libraries": [f"{name} {' '.join(sorted(numbers))}" for name, numbers in libraries.items()],
        "strangers": list(strangers),
        "backends": sorted(backends),
    }
    clean = "`make install` makes the environment anew"
    if pinned is not None and versions and versions[0] != pinned:
        return Opinion("problem", f"llama-cpp-python {versions[0]} is installed, {pinned} is needed", evidence, clean)
    if len(versions) > 1 or len(folders) > 1:
        what = ", ".join(folders if len(folders) > 1 else versions)
        return Opinion("warning", f"llama-cpp-python is installed more than once: {what}", evidence, clean)
    if mixed:
        name, numbers = next(iter(mixed.items()))
        return Opinion(
            "warning", f"libraries of several builds lie together: {name} {', '.join(numbers)}", evidence, clean
        )
    if strangers:
        reason = f"another llama.cpp is found before this one: {strangers[0]}"
        return Opinion("warning", reason, evidence, "take its folder out of LD_LIBRARY_PATH")
    if not versions:
        return Opinion("unknown", "the package llama-cpp-python has no metadata", evidence, clean)
    built = f" for {', '.join(sorted(backends))}" if backends else ""
    return Opinion("ok", f"llama-cpp-python {versions[0]}{built}, once", evidence)
