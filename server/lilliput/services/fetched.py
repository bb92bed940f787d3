"""Which contents of the shared cache this daemon has brought there: only those may ever count as its garbage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

_PREFIX = "fetched:"


class WriteFact(Protocol):
    """What may be remembered; calls may block and are made in threads."""

    def set_fact(self, key: str, value: str | None) -> None:
        """Remember, or forget with None."""
        ...


class FindFacts(Protocol):
    """What is remembered, by the beginning of its key."""

    def find_facts(self, prefix: str) -> Mapping[str, str]:
        """All facts whose key begins so."""
        ...


def note_fetched(facts: WriteFact, repo: str, digests: Iterable[str | None], now: float) -> None:
    """Remember that contents of a repository are fetched, or let go, by this daemon at unix time ``now``."""
    for digest in digests:
        if digest is not None:
            facts.set_fact(f"{_PREFIX}{repo}/{digest}", repr(now))


def forget_fetched(facts: WriteFact, repo: str, digests: Iterable[str | None]) -> None:
    """Contents are gone: whoever brings them again is their owner."""
    for digest in digests:
        if digest is not None:
            facts.set_fact(f"{_PREFIX}{repo}/{digest}", None)


def all_fetched(facts: FindFacts) -> Mapping[tuple[str, str], float]:
    """Repository and digest of all such contents, with when they were last noted."""
    found = {}
    for key, noted in facts.find_facts(_PREFIX).items():
        repo, _, digest = key.removeprefix(_PREFIX).rpartition("/")
        found[repo, digest] = float(noted)
    return found
