"""Choices among made-up variants, in bytes small enough to be added up by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tests.unit.fit.offers import CASES, TABLE, budget

from lilliput.fit import Budget, MemoryNeed, Option, Quality, Setting, Speed, UseCase, Wish, choose
from lilliput.fit.joint import Choice, Verdict
from lilliput.fit.options import Candidate

GENERAL = CASES.get("general")
RAM_100 = {"ram": budget(100)}
GPU = {"ram": budget(100), "Vulkan0": budget(50)}


def case(
    floor: str = "Q2_K", *, target: float = 10, prefers: str = "quality speed context", start: str = ""
) -> UseCase:
    order = tuple(prefers.split())
    return replace(GENERAL, floor=floor, start=start or floor, target_tokens_per_s=target, prefers=order)  # type: ignore[arg-type]


def option(
    kind: str,
    size: int,
    speed: float | None = None,
    *,
    kv: int = 0,
    vram: int | None = None,
    offload: str = "none",
    kld: float | None = None,
    **setting: int | str,
) -> Option:
    loaded = Setting(**({"context_tokens": 8192, "slots": 4} | setting))  # type: ignore[arg-type]
    needs = {"ram": MemoryNeed(size, kv, 0, 0)}
    if vram is not None:
        needs["Vulkan0"] = MemoryNeed(vram, 0, 0, 0)
    tokens = None if speed is None else Speed(speed * 0.8, speed, speed * 1.2)
    quality = TABLE.of(kind) if kld is None else Quality(kld, None, None, 8.0, "measured here", True)
    return Option(loaded, needs, offload, tokens, None, quality, estimated=False)  # type: ignore[arg-type]


def candidate(kind: str, *options: Option, name: str = "", **more: object) -> Candidate:
    return Candidate(name or kind, kind, 1000, options, **more)  # type: ignore[arg-type]


def ask(
    *candidates: Candidate,
    budgets: Mapping[str, Budget] = RAM_100,
    use_case: UseCase | None = None,
    busy: Mapping[str, Mapping[str, int]] | None = None,
    **pins: object,
) -> Choice:
    wish = Wish(**({"use_case": use_case or case(), "context_tokens": 8192, "slots": 4} | pins))  # type: ignore[arg-type]
    return choose(candidates, budgets, wish, table=TABLE, architecture="llama", busy=busy)


def taken(choice: Choice) -> str | None:
    return None if choice.chosen is None else choice.chosen.candidate.name


def setting_of(choice: Choice) -> Setting:
    assert choice.chosen is not None
    assert choice.chosen.option is not None
    return choice.chosen.option.setting


def verdict(choice: Choice, name: str) -> Verdict:
    return next(one for one in choice.verdicts if one.candidate.name == name)
