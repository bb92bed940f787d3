"""What llama.cpp itself says of a model's memory and of its quantizations, asked once and remembered."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import msgspec

from lilliput.gguf import GgmlType, Header, Tensor, place_tensors, stand_in_bytes, write_stand_in
from lilliput.llama import Buffers, DryResult, Point, run_dry

_MODELS_REMEMBERED = 64
_CHILDREN = 2
_FLOATS = frozenset({GgmlType.F32, GgmlType.F16, GgmlType.BF16, GgmlType.F64})
_VERSION = 1


class Facts(Protocol):
    """Where answers are kept between runs; calls may block and are made in threads."""

    def get_fact(self, key: str) -> str | None:
        """What was kept under ``key``."""
        ...

    def set_fact(self, key: str, value: str) -> None:
        """Keep ``value``."""
        ...


@dataclass(frozen=True, slots=True)
class Answers:
    """Buffers by point and tensors by quantization; what llama.cpp would not plan is missing, ``refusals`` say why."""

    buffers: Mapping[Point, Buffers]
    mixes: Mapping[str, tuple[Tensor, ...]]
    refusals: Mapping[Point | str, str]


class _Known(msgspec.Struct):
    """All that is known of one model; keys of ``points`` are points as JSON."""

    points: dict[str, DryResult] = {}
    mixes: dict[str, DryResult] = {}


class Oracle:
    """Dry runs by model, remembered in memory and in ``facts``; used from one event loop.

    ``build`` names the library, ``devices`` what it can use now: answers hold only for the same of both.
    """

    def __init__(self, facts: Facts, build: str, devices: Callable[[], Sequence[str]]) -> None:
        self._facts = facts
        self._build = build
        self._devices = devices
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._locks: dict[str, asyncio.Lock] = {}
        self._children = asyncio.Semaphore(_CHILDREN)

    async def ask(
        self, header: Header, tensors: Sequence[Tensor], points: Sequence[Point], quantizations: Sequence[str] = ()
    ) -> Answers:
        """Plan every point (whose model path is empty) and quantization of the model with these tensors.

        Quantized matrices are asked about as F16: caches and scratch do not depend on the type of the weights, and all
        quantizations of a model then share their answers.
        """
        model = replace(header, tensors=_in_half_precision(tensors))
        key = await asyncio.to_thread(self._key, model)
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            known = await self._recall(key)
            asked = {_name(point): point for point in points}
            new = [point for name, point in asked.items() if name not in known.points]
            kinds = [kind for kind in dict.fromkeys(quantizations) if kind not in known.mixes]
            if new or kinds:
                await self._run(model, known, new, kinds)
                await asyncio.to_thread(self._facts.set_fact, key, msgspec.json.encode(known).decode())
        if not lock.locked():
            self._locks.pop(key, None)
        return _answers(model, known, asked, quantizations)

    async def _run(self, model: Header, known: _Known, points: Sequence[Point], kinds: Sequence[str]) -> None:
        async with self._children:
            with tempfile.TemporaryDirectory(prefix="lilliput-plan-") as directory:
                path = Path(directory) / "stand-in.gguf"
                await asyncio.to_thread(write_stand_in, model, path)
                order = sorted(points, key=lambda point: repr(point.model))
                on_file = [
                    msgspec.structs.replace(point, model=replace(point.model, path=str(path)))
                    for point in order or (Point.of_file(""),)
                ]
                planned, quantized = await run_dry(on_file, kinds)
        for point, result in zip(order, planned, strict=False):
            known.points[_name(point)] = result
        for result in quantized:
            assert result.quantization is not None
            known.mixes[result.quantization] = result

    async def _recall(self, key: str) -> _Known:
        known = self._known.get(key)
        if known is None:
            stored = await asyncio.to_thread(self._facts.get_fact, key)
            known = _Known() if stored is None else msgspec.json.decode(stored, type=_Known)
            self._known[key] = known
            if len(self._known) > _MODELS_REMEMBERED:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return known

    def _key(self, model: Header) -> str:
        digest = hashlib.sha256(stand_in_bytes(model))
        digest.update("\n".join((self._build, *self._devices())).encode())
        return f"dry-run/{_VERSION}/{digest.hexdigest()}"


def _in_half_precision(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return place_tensors((one.name, one.shape, one.type if one.type in _FLOATS else GgmlType.F16) for one in tensors)


def _name(point: Point) -> str:
    return msgspec.json.encode(point).decode()


def _answers(model: Header, known: _Known, asked: Mapping[str, Point], quantizations: Sequence[str]) -> Answers:
    buffers: dict[Point, Buffers] = {}
    mixes: dict[str, tuple[Tensor, ...]] = {}
    refusals: dict[Point | str, str] = {}
    for name, point in asked.items():
        result = known.points[name]
        if result.buffers is not None:
            buffers[point] = result.buffers
        else:
            refusals[point] = result.error or "no answer"
    for kind in quantizations:
        result = known.mixes[kind]
        tensors = None if result.tensor_types is None else _retyped(model.tensors, result.tensor_types)
        if tensors is not None:
            mixes[kind] = tensors
        else:
            refusals[kind] = result.error or "llama.cpp names a type that is unknown here"
    return Answers(buffers, mixes, refusals)


def _retyped(tensors: Sequence[Tensor], types: Mapping[str, str]) -> tuple[Tensor, ...] | None:
    try:
        return place_tensors((one.name, one.shape, GgmlType[types[one.name]]) for one in tensors)
    except KeyError:
        return None
