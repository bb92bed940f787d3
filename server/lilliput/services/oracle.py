"""What llama.cpp itself says of a model's memory and of its quantizations, asked once and remembered."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol
from weakref import WeakValueDictionary

import msgspec

from lilliput.errors import DiskFull, StorageError
from lilliput.gguf import GgmlType, Header, Tensor, place_tensors, stand_in_bytes, write_stand_in
from lilliput.llama import Buffers, DryResult, Point, run_dry

_MODELS_REMEMBERED = 64
_CHILDREN = 2
_FLOATS = frozenset({GgmlType.F32, GgmlType.F16, GgmlType.BF16, GgmlType.F64})
_VERSION = 2


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
    """Buffers by point and tensors by quantization; what llama.cpp would not plan is missing, ``refusals`` say why.

    ``need_matrix`` are the quantizations that it makes only with an importance matrix.
    """

    buffers: Mapping[Point, Buffers]
    mixes: Mapping[str, tuple[Tensor, ...]]
    refusals: Mapping[Point | str, str]
    need_matrix: frozenset[str] = frozenset()


class _Known(msgspec.Struct):
    """All that is known of one model; keys of ``points`` are points as JSON."""

    points: dict[str, DryResult] = {}
    mixes: dict[str, DryResult] = {}


@dataclass(slots=True)
class _Model:
    """What is known of a model, and its mixtures as tensors."""

    known: _Known
    mixes: dict[str, tuple[Tensor, ...]] = field(default_factory=dict)


class Oracle:
    """Dry runs by model, remembered in memory and in ``facts``; used from one event loop.

    ``build`` names the library, ``devices`` what it can use now: answers hold only for the same of both.
    """

    def __init__(self, facts: Facts, build: str, devices: Callable[[], Sequence[str]]) -> None:
        self._facts = facts
        self._build = build
        self._devices = devices
        self._models: OrderedDict[str, _Model] = OrderedDict()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._children = asyncio.Semaphore(_CHILDREN)

    async def ask(
        self, digest: str, header: Header, points: Sequence[Point], quantizations: Sequence[str] = ()
    ) -> Answers:
        """Plan every point (whose model path is empty) and quantization of the model that ``header`` describes whole.

        ``digest`` is that of its stand-in (see ``stand_in_digest``).

        Quantized matrices are asked about as F16: caches and scratch do not depend on the type of the weights, and all
        quantizations of a model then share their answers.
        """
        key = self._key(digest)
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            model = await self._recall(key)
            known = model.known
            asked = {_name(point): point for point in points}
            new = [point for name, point in asked.items() if name not in known.points]
            kinds = [kind for kind in dict.fromkeys(quantizations) if kind not in known.mixes]
            if new or kinds:
                await self._run(header, known, new, kinds)
            answers = await asyncio.to_thread(_answers, header, model, asked, quantizations)
            if new or kinds:
                _forget_timeouts(known)
                await asyncio.to_thread(self._keep, key, known)
        return answers

    def _read(self, key: str) -> _Known:
        stored = self._facts.get_fact(key)
        return _Known() if stored is None else msgspec.json.decode(stored, type=_Known)

    def _keep(self, key: str, known: _Known) -> None:
        self._facts.set_fact(key, msgspec.json.encode(known).decode())

    async def _run(self, header: Header, known: _Known, points: Sequence[Point], kinds: Sequence[str]) -> None:
        order = sorted(points, key=lambda point: repr(point.model))
        async with self._children:
            with _stand_in_folder() as folder:
                path = folder / "stand-in.gguf"
                await asyncio.to_thread(_write, header, path)
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

    async def _recall(self, key: str) -> _Model:
        model = self._models.get(key)
        if model is None:
            model = self._models[key] = _Model(await asyncio.to_thread(self._read, key))
            if len(self._models) > _MODELS_REMEMBERED:
                self._models.popitem(last=False)
        self._models.move_to_end(key)
        return model

    def _key(self, digest: str) -> str:
        surroundings = hashlib.sha256("\n".join((self._build, *self._devices())).encode())
        return f"dry-run/{_VERSION}/{digest}/{surroundings.hexdigest()[:16]}"


@contextmanager
def _stand_in_folder() -> Iterator[Path]:
    """A folder for one stand-in, removed afterwards; StorageError where none can be made."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="lilliput-plan-")
    except OSError as error:
        raise _no_room(error) from error
    with folder as name:
        yield Path(name)


def _write(header: Header, path: Path) -> None:
    try:
        write_stand_in(in_half_precision(header), path)
    except OSError as error:
        raise _no_room(error) from error


def _no_room(error: OSError) -> StorageError:
    kind = DiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else StorageError
    return kind(
        f"plans need some 100 kB for temporary files, which cannot be written: {error.strerror or error}",
        hint="free some space there, or let TMPDIR name another folder",
    )


def in_half_precision(header: Header) -> Header:
    """The same model with its quantized matrices in F16."""
    kinds = ((one.name, one.shape, one.type if one.type in _FLOATS else GgmlType.F16) for one in header.tensors)
    return replace(header, tensors=place_tensors(kinds))


def stand_in_digest(header: Header) -> str:
    """A key (64 hex digits) that is equal for all quantizations of a model: what ``Oracle.ask`` knows it by."""
    return hashlib.sha256(stand_in_bytes(in_half_precision(header))).hexdigest()


def _name(point: Point) -> str:
    return msgspec.json.encode(point).decode()


def _answers(header: Header, model: _Model, asked: Mapping[str, Point], quantizations: Sequence[str]) -> Answers:
    known = model.known
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
        if kind not in model.mixes and result.tensor_types is not None:
            tensors = _retyped(header.tensors, result.tensor_types)
            if tensors is not None:
                model.mixes[kind] = tensors
        if kind in model.mixes:
            mixes[kind] = model.mixes[kind]
        else:
            refusals[kind] = result.error or "llama.cpp names a type that is unknown here"
    return Answers(buffers, mixes, refusals, frozenset(kind for kind in mixes if known.mixes[kind].needs_matrix))


def _forget_timeouts(known: _Known) -> None:
    """What a busy machine had no time for is asked again next time."""
    for results in (known.points, known.mixes):
        for name in [name for name, result in results.items() if result.timed_out]:
            del results[name]


def _retyped(tensors: Sequence[Tensor], types: Mapping[str, str]) -> tuple[Tensor, ...] | None:
    """The tensors with these types, in the order in which llama.cpp would write them; None for what is unknown here."""
    shapes = {one.name: one.shape for one in tensors}
    if types.keys() != shapes.keys():
        return None
    try:
        return place_tensors((name, shapes[name], GgmlType[kind]) for name, kind in types.items())
    except KeyError:
        return None
