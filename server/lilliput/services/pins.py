"""Models that stay in memory: loaded when the daemon starts, and neither evicted nor ended when unused."""

from __future__ import annotations

import msgspec

from lilliput.services.agreements import Facts, ReadFacts

_FACT = "pins"


def pinned(facts: ReadFacts) -> frozenset[str]:
    """Names of the installed models that are pinned."""
    text = facts.get_fact(_FACT)
    return frozenset() if text is None else msgspec.json.decode(text, type=frozenset[str])


def set_pin(facts: Facts, name: str, *, on: bool) -> frozenset[str]:
    """Pin a model, or no longer; returns the names that are pinned then."""
    before = pinned(facts)
    after = before | {name} if on else before - {name}
    if after != before:
        facts.set_fact(_FACT, msgspec.json.encode(sorted(after)).decode())
    return after
