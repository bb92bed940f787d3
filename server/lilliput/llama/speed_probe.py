"""How fast this machine computes each tensor type, measured with generated models. A child of its own:
``python -m lilliput.llama.speed_probe`` reads one JSON request from standard input and prints JSON lines.

Request (all but ``types`` may be left out): ``{"types": ["Q4_K", …], "threads": 0, "rung": "native",
"gpu_layers": 0, "device": null, "seconds": 20, "large_bytes": 100663296, "attention": true, "experts": false,
"directory": null}``. With ``gpu_layers`` (-1: all) it measures accelerators, or that one ``device``. ``seconds`` bounds
the whole run: what was not reached by then is named at the end.

Answer: a line a model, ``{"run": "large", "type": "Q4_K", "layers", "vocabulary", "weight_bytes": {type: bytes read a
token}, "expert_bytes": {type: those of experts among them}, "decode_s", "sample_s", "prompt_s", "prompt_tokens",
"busy"}``, for each type a ``small`` one (many thin layers: what a layer costs without its weights) and a ``large``
one (what a byte costs); ``attention`` lines ``{"run", "elements", "decode_s", "prompt_elements", "prompt_s"}``; at
last ``{"run": "done", "took_s", "skipped": [types]}``. ``busy`` is the part of the threads' time in which they ran:
far below 1 somebody else had the cores. Times are the middle of several undisturbed forward passes, taken of the
sizes in turn. A crash of the library ends the process: what has been printed holds.

Give it the environment of an engine worker and its rung, so that both compute alike.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lilliput.children import end_with_parent
from lilliput.gguf import GgmlType
from lilliput.llama.random_model import RandomShape, write_random_model
from lilliput.llama.rungs import Rung
from lilliput.llama.sampler_values import SamplerSettings
from lilliput.llama.values import ContextSettings, ModelSettings
from lilliput.units import MIB

if TYPE_CHECKING:
    from lilliput.llama.context import Context
    from lilliput.llama.sampler import Sampler

PROMPT_TOKENS = 64
EXPERT_PROMPT_TOKENS = 256
"""More where each token goes to a quarter of the weights: as many for each expert as others have for all."""

_CHUNK_TOKENS = 256
_CONTEXT_TOKENS = 2048
_DEEP_TOKENS = 1024
_ROUNDS = 4
_STEPS, _MOST_STEPS = 4, 64
_ROUND_S = 0.05
_TYPE_S = 2.0
_UNDISTURBED = 0.85


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """What to measure; see the module's text."""

    types: tuple[str, ...]
    threads: int = 0
    rung: Rung = "native"
    gpu_layers: int = 0
    device: str | None = None
    seconds: float = 20.0
    large_bytes: int = 96 * MIB
    attention: bool = True
    experts: bool = False
    directory: str | None = None


def small_shape(kind: GgmlType) -> RandomShape:
    """Many thin layers and next to no weights."""
    return RandomShape(24, 256, 256, 4, 2, 8192, kind)


def large_shape(kind: GgmlType, large_bytes: int) -> RandomShape:
    """Few wide layers with about ``large_bytes`` of weights, more than a cache holds."""
    width, inner, heads, kv_heads = 1536, 4096, 12, 4
    layer_elements = 2 * width * width + 2 * width * width * kv_heads // heads + 3 * width * inner
    layers = max(1, round(large_bytes / (layer_elements * kind.bits_per_element / 8)))
    return RandomShape(layers, width, inner, heads, kv_heads, 1024, kind)


def expert_shape(kind: GgmlType, large_bytes: int) -> RandomShape:
    """Layers of 16 experts of which 4 are used, so that a token reads about a quarter of ``large_bytes``."""
    width, inner, experts = 1024, 1024, 16
    layers = max(2, round(large_bytes / (3 * experts * width * inner * kind.bits_per_element / 8)))
    return RandomShape(layers, width, inner, 8, 2, 1024, kind, experts=experts, experts_used=4)


def weight_bytes(shape: RandomShape) -> tuple[int, int]:
    """Bytes of matrices that one token reads, routers left out, and those of experts among them."""
    width, inner = shape.width, shape.feed_forward
    attention = 2 * width * width + 2 * width * (width // shape.heads * shape.kv_heads)
    feed_forward = 3 * shape.layers * width * inner * max(1, shape.experts_used)
    elements = shape.layers * attention + feed_forward + width * shape.vocabulary
    each = shape.kind.bits_per_element / 8
    return round(elements * each), round(feed_forward * each) if shape.experts else 0


class Pass(NamedTuple):
    """One forward pass: its seconds, and the part of its threads' time in which they ran around then."""

    seconds: float
    busy: float


@dataclass(slots=True)
class _Passes:
    """What was timed of one model."""

    decode: list[Pass] = field(default_factory=list)
    sample: list[Pass] = field(default_factory=list)
    prompt: list[Pass] = field(default_factory=list)


class _Subject:
    """One generated model, loaded and ready to be timed."""

    def __init__(self, stack: ExitStack, request: ProbeRequest, shape: RandomShape, directory: Path) -> None:
        from lilliput.llama.batch import Batch
        from lilliput.llama.context import Context
        from lilliput.llama.model import Model
        from lilliput.llama.sampler import Sampler

        path = directory / f"{shape.kind.name}-{shape.layers}-{shape.width}.gguf"
        stack.callback(path.unlink, missing_ok=True)  # on Windows only when the model is closed
        write_random_model(path, shape)
        self.shape = shape
        self.prompt_tokens = EXPERT_PROMPT_TOKENS if shape.experts else PROMPT_TOKENS
        self.passes = _Passes()
        try:
            settings = ModelSettings(
                str(path),
                gpu_layers=request.gpu_layers,
                rung=request.rung,
                device=request.device,
            )
            model = stack.enter_context(Model(settings))
            limits = ContextSettings(_CONTEXT_TOKENS, 1, 512, 512, request.threads)
            self.context: Context = stack.enter_context(Context(model, limits))
        finally:
            if sys.platform != "win32":
                path.unlink()
        self._sampler: Sampler = stack.enter_context(Sampler(model, SamplerSettings(temperature=0)))
        self._batch = Batch(512)
        self._threads = request.threads or 1
        self.forward(0, 1)

    def forward(self, position: int, count: int) -> float:
        """Seconds of one forward pass over ``count`` tokens that follow ``position`` others."""
        self._batch.clear()
        tokens = [7 * place % 997 + 1 for place in range(position, position + count)]
        self._batch.add(tokens, position, 0, output_last=True)
        began = time.perf_counter()
        self.context.decode(self._batch)
        return time.perf_counter() - began

    def prompt(self) -> None:
        """Time one prompt and leave it in the cache."""
        self.context.drop(0)
        watch = _Watch(self._threads)
        seconds = self.forward(0, self.prompt_tokens)
        self.passes.prompt.append(Pass(seconds, watch.busy()))

    def round(self, depth: int | None = None) -> list[Pass]:
        """Time some single tokens behind ``depth`` others (the prompt's)."""
        depth = depth or self.prompt_tokens
        watch = _Watch(self._threads)
        decode: list[float] = []
        sample: list[float] = []
        while len(decode) < _STEPS or (watch.seconds() < _ROUND_S and len(decode) < _MOST_STEPS):
            decode.append(self.forward(depth + len(decode), 1))
            drawn = time.perf_counter()
            self._sampler.sample(self.context, -1)
            sample.append(time.perf_counter() - drawn)
        busy = watch.busy()
        self.context.truncate(0, depth)
        self.passes.sample.extend(Pass(seconds, busy) for seconds in sample)
        return [Pass(seconds, busy) for seconds in decode]

    def report(self, name: str) -> dict[str, Any]:
        """The line that says what was measured."""
        kind = self.shape.kind.name
        read, experts = weight_bytes(self.shape)
        decode = quiet(self.passes.decode)
        return {
            "run": name,
            "type": kind,
            "layers": self.shape.layers,
            "vocabulary": self.shape.vocabulary,
            "weight_bytes": {kind: read},
            "expert_bytes": {kind: experts} if experts else {},
            "decode_s": decode.seconds,
            "sample_s": quiet(self.passes.sample).seconds,
            "prompt_s": quiet(self.passes.prompt).seconds,
            "prompt_tokens": self.prompt_tokens,
            "busy": round(decode.busy, 3),
        }


class _Watch:
    """Wall and processor time since its making. Processor time of other threads is known by the tick: watch 10 ms and
    more.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._began, self._ran = time.perf_counter(), time.process_time()

    def seconds(self) -> float:
        return time.perf_counter() - self._began

    def busy(self) -> float:
        """The part of the threads' time in which they ran."""
        return (time.process_time() - self._ran) / (max(self.seconds(), 1e-9) * self._threads)


def quiet(passes: Sequence[Pass]) -> Pass:
    """What the machine does when nobody disturbs it: the middle of those passes in which all threads ran all the time.

    Where there are few of them, the quarter quantile of all; its ``busy`` tells.
    """
    undisturbed = sorted(one for one in passes if one.busy >= _UNDISTURBED)
    if len(undisturbed) >= min(_STEPS, len(passes)):
        return undisturbed[(len(undisturbed) - 1) // 2]
    return sorted(passes)[len(passes) // 4]


def measure(request: ProbeRequest) -> Iterator[dict[str, Any]]:
    """Run all that is asked for and yield the lines of the answer as they come."""
    from lilliput.llama.library import start_library

    began = time.perf_counter()
    start_library()
    skipped = []
    attention = request.attention
    with tempfile.TemporaryDirectory(prefix="lilliput-speed-", dir=request.directory) as directory:
        for name in request.types:
            if time.perf_counter() - began > request.seconds:
                skipped.append(name)
                continue
            yield from _measure_type(request, GgmlType[name], Path(directory), attention=attention)
            attention = False
    yield {"run": "done", "took_s": round(time.perf_counter() - began, 3), "skipped": skipped}


def _measure_type(
    request: ProbeRequest, kind: GgmlType, directory: Path, *, attention: bool
) -> Iterator[dict[str, Any]]:
    shapes = {"small": small_shape(kind), "large": large_shape(kind, request.large_bytes)}
    if request.experts:
        shapes["experts"] = expert_shape(kind, request.large_bytes)
    with ExitStack() as stack:
        subjects = {name: _Subject(stack, request, shape, directory) for name, shape in shapes.items()}
        began = time.perf_counter()
        for turn in range(_ROUNDS):
            if time.perf_counter() - began > _TYPE_S:
                break
            for subject in subjects.values():
                if turn % 2 == 0:
                    subject.prompt()
                subject.passes.decode += subject.round()
        for name, subject in subjects.items():
            yield subject.report(name)
        if attention:
            yield _measure_attention(subjects["small"])


def _measure_attention(subject: _Subject) -> dict[str, Any]:
    """What more cells cost; ``elements`` of keys and values that the query heads of one more token look at."""
    shape = subject.shape
    a_cell = 2 * shape.layers * shape.width
    subject.context.drop(0)
    chunks = [subject.forward(start, _CHUNK_TOKENS) for start in range(0, _DEEP_TOKENS, _CHUNK_TOKENS)]
    decode = quiet(subject.round(_DEEP_TOKENS) + subject.round(_DEEP_TOKENS))
    subject.context.drop(0)
    return {
        "run": "attention",
        "elements": a_cell * (_DEEP_TOKENS - PROMPT_TOKENS),
        "decode_s": max(0.0, decode.seconds - quiet(subject.passes.decode).seconds),
        "prompt_elements": a_cell * _CHUNK_TOKENS * (_DEEP_TOKENS - _CHUNK_TOKENS),
        "prompt_s": max(0.0, chunks[-1] - chunks[0]),
    }


def read_request(said: Mapping[str, Any]) -> ProbeRequest:
    """The request with its defaults; KeyError for an unknown type, TypeError for an unknown option."""
    types = tuple(GgmlType[name].name for name in said["types"])
    return ProbeRequest(**{**said, "types": types})


def main() -> None:
    """Serve one request."""
    end_with_parent()
    # Without it ggml starts a debugger on itself when it aborts.
    os.environ["GGML_NO_BACKTRACE"] = "1"
    for line in measure(read_request(json.load(sys.stdin))):
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
