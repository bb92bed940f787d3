"""What a dry run is asked and what it answers, for processes without the library."""

from __future__ import annotations

import msgspec

from lilliput.llama.buffers import Buffers
from lilliput.llama.values import ContextSettings, ModelSettings


class Point(msgspec.Struct, frozen=True):
    """One way to load a model: where its layers go, and the context it gets."""

    model: ModelSettings
    context: ContextSettings

    @classmethod
    def of_file(cls, path: str) -> Point:
        """The least that names a file, for requests that are only about its quantizations."""
        return cls(ModelSettings(path, gpu_layers=0), ContextSettings(256, 1))


class DryRequest(msgspec.Struct, frozen=True):
    """Points to plan, best sorted by ``model``: each change loads anew. Quantizations are of the first point's file."""

    points: tuple[Point, ...]
    quantizations: tuple[str, ...] = ()


class DryResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer for point ``number``, or for ``quantization`` the type of each tensor; else ``error``.

    ``needs_matrix``: llama.cpp would make that quantization only with an importance matrix. ``timed_out``: the error
    may be gone when it is asked again.
    """

    number: int | None = None
    buffers: Buffers | None = None
    quantization: str | None = None
    tensor_types: dict[str, str] | None = None
    needs_matrix: bool = False
    error: str | None = None
    timed_out: bool = False
