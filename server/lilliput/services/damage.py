"""Which installed models were found damaged: a pull of one fetches anew what is not sound, whatever its size says."""

from __future__ import annotations

from lilliput.services.agreements import Facts, ReadFacts


def is_damaged(facts: ReadFacts, name: str) -> bool:
    """Whether the last verification of a model found something wrong."""
    return facts.get_fact(_key(name)) is not None


def note_damage(facts: Facts, name: str, *, damaged: bool) -> None:
    """Remember what a verification found; False also when the model was installed anew or removed."""
    if damaged or is_damaged(facts, name):
        facts.set_fact(_key(name), "yes" if damaged else None)


def _key(name: str) -> str:
    return f"damaged:{name}"
