"""Hostile GGUF files: a thousand ways in which a small real model can be wrong, the same ones every time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.hostile.byte_faults import byte_faults
from tests.support.hostile.document import Document, sound
from tests.support.hostile.tensor_faults import tensor_faults
from tests.support.hostile.value_faults import value_faults

__all__ = ["Document", "Mutation", "corpus", "sound"]


@dataclass(frozen=True, slots=True)
class Mutation:
    """One wrong file, and what is wrong with it."""

    name: str
    data: bytes


def corpus() -> Iterator[Mutation]:
    """All of them, one at a time; some are odd but not wrong."""
    document = sound()
    for faults in (byte_faults, value_faults, tensor_faults):
        for name, data in faults(document):
            yield Mutation(name, data)
