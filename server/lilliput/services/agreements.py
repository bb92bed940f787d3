"""The terms that a model was pulled or loaded on, kept as one fact beside it: every later load keeps to them."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import msgspec

from lilliput.pool import OPEN_TERMS, Terms
from lilliput.services.plan_request import PlanRequest


class ReadFacts(Protocol):
    """What is remembered; calls may block and are made in threads."""

    def get_fact(self, key: str) -> str | None:
        """What was remembered."""
        ...


class Facts(ReadFacts, Protocol):
    """As ``ReadFacts``, to be written too."""

    def set_fact(self, key: str, value: str | None) -> None:
        """Remember, or forget with None."""
        ...


def agreed(facts: ReadFacts, name: str) -> Terms:
    """The terms of an installed model; none are binding when nothing was ever asked for."""
    text = facts.get_fact(_key(name))
    return OPEN_TERMS if text is None else msgspec.json.decode(text, type=Terms)


def agree(facts: Facts, name: str, asked: Terms) -> None:
    """Keep what was asked for; terms of before stay where nothing is."""
    before = agreed(facts, name)
    if (after := before.after(asked)) != before:
        facts.set_fact(_key(name), msgspec.json.encode(after).decode())


def forget(facts: Facts, name: str) -> None:
    """Forget the terms of a model that is removed."""
    facts.set_fact(_key(name), None)


def on_terms(request: PlanRequest, terms: Terms) -> PlanRequest:
    """The request with what these terms ask for."""
    return replace(
        request,
        context_tokens=terms.context_tokens,
        use_case=terms.use_case,
        slots=terms.slots,
        kv_type=terms.kv_type,
        gpu_layers=terms.gpu_layers,
        rope=terms.rope,
    )


def _key(name: str) -> str:
    return f"terms:{name}"
