"""What a measured load is asked and what it answers, for processes without the library."""

from __future__ import annotations

import msgspec

from lilliput.llama.buffers import Buffers
from lilliput.llama.held_memory import Held
from lilliput.llama.values import ContextSettings, ModelSettings


class LoadRequest(msgspec.Struct, frozen=True):
    """One real load; afterwards a prompt of a whole micro-batch and ``steps`` tokens on each of ``slots`` sequences."""

    model: ModelSettings
    context: ContextSettings
    slots: int = 1
    steps: int = 2


class Loaded(msgspec.Struct, frozen=True):
    """What llama.cpp said of its buffers, and what the process held before, between and after.

    ``started`` with the library and before the file, ``model`` with it, ``context`` with caches and buffers, ``used``
    after the forward passes. ``error`` instead of all this when the load was refused.
    """

    buffers: Buffers | None = None
    started: Held | None = None
    model: Held | None = None
    context: Held | None = None
    used: Held | None = None
    error: str | None = None
