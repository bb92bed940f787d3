"""What a model is wanted for: the least quality that will do, a speed and a context to aim at, and what goes first."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, NoReturn, cast, get_args

from lilliput.errors import BadFile, InvalidRequest
from lilliput.fit.quality import QualityTable

Preference = Literal["quality", "speed", "context"]

FLOOR_TOLERANCE = 0.02
"""How much more than the floor's loss still meets it, as a share of it.

llama.cpp's scoreboard has Q2_K with importance matrices of five sizes, 1.7 % apart: less than this is no difference. No
shipped floor has another type that near below it, so the tolerance lets no worse type in."""

_KEYS = frozenset(
    {
        "title",
        "description",
        "aliases",
        "floor",
        "start",
        "target_tokens_per_s",
        "context_tokens",
        "prefers",
        "examples",
    }
)


@dataclass(frozen=True, slots=True)
class UseCase:
    """A purpose: ``floor`` is the quantization never to go below, ``start`` the one to begin with.

    ``prefers`` orders quality, speed and context: the first is given up last.
    """

    name: str
    title: str
    description: str
    floor: str
    start: str
    target_tokens_per_s: float
    context_tokens: int
    prefers: tuple[Preference, ...]
    examples: tuple[str, ...]
    aliases: tuple[str, ...] = ()


def meets_floor(
    table: QualityTable,
    quantization: str | None,
    use_case: UseCase,
    *,
    file_bits_per_weight: float | None = None,
    architecture: str | None = None,
) -> bool:
    """Whether a type loses no more than the use case's floor, within ``FLOOR_TOLERANCE``.

    Types are compared by the table's loss, not by name, so a good mixture with a low number passes (UD-Q4_K_XL for
    Q4_K_M) and a poor one with a high number does not (Q4_1). Only priors are compared: a KLD measured on one model
    says nothing beside the prior of another, and a file of the floor's own type always meets it.
    """
    if quantization == use_case.floor:
        return True
    loss = table.loss(quantization, file_bits_per_weight, architecture=architecture)
    return loss <= table.loss(use_case.floor) * (1 + FLOOR_TOLERANCE)


@dataclass(frozen=True, slots=True)
class UseCases:
    """The use cases of ``use_cases.toml``, in its order; made by ``from_mapping`` from the parsed file."""

    default: UseCase
    all: tuple[UseCase, ...]

    @classmethod
    def from_mapping(cls, data: Mapping[str, object]) -> UseCases:
        """The use cases from the parsed TOML, whose head describes its form; ``BadFile`` names what is wrong."""
        cases = tuple(_use_case(name, value) for name, value in data.items() if name != "default")
        owners: dict[str, str] = {}
        for case in cases:
            for spelling in (case.name, *case.aliases):
                owner = owners.setdefault(_fold(spelling), case.name)
                if owner != case.name:
                    _fail(f"{spelling!r} would mean both {owner} and {case.name}")
        for case in cases:
            if case.name == data.get("default"):
                return cls(case, cases)
        return _fail("default names no use case")

    def get(self, name: str | None) -> UseCase:
        """The use case of this name or alias, the default one for None; ``InvalidRequest`` with near matches else."""
        if name is None:
            return self.default
        spellings = {_fold(alias): case for case in self.all for alias in (case.name, *case.aliases)}
        case = spellings.get(_fold(name))
        if case is not None:
            return case
        near = [spellings[one].name for one in get_close_matches(_fold(name), spellings, n=3, cutoff=0.6)]
        known = f"use cases: {', '.join(case.name for case in self.all)}"
        hint = f"did you mean {' or '.join(dict.fromkeys(near))}? {known}" if near else known
        raise InvalidRequest(f"no use case is called {name[:60]!r}", hint=hint, param="use_case")


def _fold(name: str) -> str:
    return re.sub(r"[-_.\s]", "", name.lower())


def _fail(what: str) -> NoReturn:
    raise BadFile(f"use_cases.toml: {what}", hint="its head describes the form")


def _use_case(name: str, value: object) -> UseCase:
    if not isinstance(value, dict):
        _fail(f"{name} is not a table")
    for key in value:
        if key not in _KEYS:
            _fail(f"{name} has an unknown key {key!r}")
    for key in sorted(_KEYS - {"aliases"} - value.keys()):
        _fail(f"{name} lacks {key}")
    speed, context = value["target_tokens_per_s"], value["context_tokens"]
    if isinstance(speed, bool) or not isinstance(speed, (int, float)) or not speed > 0:
        _fail(f"{name}.target_tokens_per_s is no number above 0")
    if isinstance(context, bool) or not isinstance(context, int) or context < 1:
        _fail(f"{name}.context_tokens is no whole number above 0")
    prefers = _texts(name, value, "prefers")
    if sorted(prefers) != sorted(get_args(Preference)):
        _fail(f"{name}.prefers is not quality, speed and context in some order")
    return UseCase(
        name=name,
        title=_text(name, value, "title"),
        description=_text(name, value, "description"),
        floor=_text(name, value, "floor"),
        start=_text(name, value, "start"),
        target_tokens_per_s=float(speed),
        context_tokens=context,
        prefers=cast("tuple[Preference, ...]", prefers),
        examples=_texts(name, value, "examples"),
        aliases=_texts(name, value, "aliases"),
    )


def _text(name: str, value: Mapping[str, object], key: str) -> str:
    text = value[key]
    if not isinstance(text, str) or not text:
        _fail(f"{name}.{key} is no text")
    return text


def _texts(name: str, value: Mapping[str, object], key: str) -> tuple[str, ...]:
    found = value.get(key, [])
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        _fail(f"{name}.{key} is no list of texts")
    return tuple(found)
