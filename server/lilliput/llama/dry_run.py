"""Ask llama.cpp what a model needs, without its weights. Run as a child: ``python -m lilliput.llama.dry_run``.

Reads one JSON request from standard input and prints one JSON line for every point and every quantization, at once, so
that what is known is not lost when a point ends the process: llama.cpp aborts at what it does not like.
"""

from __future__ import annotations

import ctypes
import re
import sys
from dataclasses import replace
from itertools import groupby

import msgspec
from llama_cpp import llama_cpp as c

from lilliput.children import end_with_parent
from lilliput.errors import EngineLoadFailed, InvalidRequest
from lilliput.llama.buffers import parse_buffers
from lilliput.llama.context import Context
from lilliput.llama.dry_run_values import DryRequest, DryResult, Point
from lilliput.llama.library import LibraryLog, start_library
from lilliput.llama.limits import limit_memory
from lilliput.llama.model import Model
from lilliput.llama.rungs import RUNGS

MEMORY_LIMIT_BYTES = 4 * 1024**3
_TENSOR = re.compile(r"^\[ *\d+/ *\d+\] (\S+)\s+- \[.*?\], type = +(\w+), size = [^(]*(?:\((\w+)\))?")
_COMPLAINT = re.compile(r"error|fail|requires|not supported|unknown|invalid|missing", re.IGNORECASE)
_EMPTY = "failed to load model"
"""What llama.cpp says after the line that has the reason."""

_NEEDS_MATRIX = "will require an imatrix"
_LOOKED_BACK = 8

_RUNG = RUNGS[-1]
"""Nothing is computed here, and caches and scratch are the same on all rungs; but on processors with AMX the library
aborts over some shapes (DeepSeek V3's) where it may use it.
"""


def main() -> None:
    """Answer the request on standard input."""
    end_with_parent()
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=DryRequest)
    limit_memory(MEMORY_LIMIT_BYTES)
    log = start_library()
    for model_settings, numbered in groupby(enumerate(request.points), key=lambda pair: pair[1].model):
        points = list(numbered)
        log.lines.clear()
        try:
            with Model(replace(model_settings, rung=_RUNG), no_weights=True) as model:
                for number, point in points:
                    _say(_plan(model, log, number, point))
        except (EngineLoadFailed, InvalidRequest) as error:
            for number, _ in points:
                _say(DryResult(number=number, error=_reason(log, error)))
    for name in request.quantizations:
        _say(_quantize(request.points[0].model.path, name, log))


def _plan(model: Model, log: LibraryLog, number: int, point: Point) -> DryResult:
    lines: list[str] = []
    log.lines.clear()
    log.on_line = lines.append
    try:
        with Context(model, point.context):
            return DryResult(number=number, buffers=parse_buffers(lines))
    except (EngineLoadFailed, InvalidRequest) as error:
        return DryResult(number=number, error=_reason(log, error))
    finally:
        log.on_line = None


def _quantize(path: str, name: str, log: LibraryLog) -> DryResult:
    """The tensor types that the quantization would give, in the order in which llama.cpp goes through the tensors."""
    lines: list[str] = []
    params = c.llama_model_quantize_default_params()
    params.dry_run = True
    params.allow_requantize = True
    number = getattr(c, f"LLAMA_FTYPE_MOSTLY_{name}", None) or (c.LLAMA_FTYPE_ALL_F32 if name == "F32" else None)
    if number is None:
        return DryResult(quantization=name, error=f"llama.cpp makes no {name}")
    params.ftype = number
    log.on_line = lines.append
    try:
        status = c.llama_model_quantize(path.encode(), b"", ctypes.byref(params))
    finally:
        log.on_line = None
    kinds = {found[1]: (found[3] or found[2]).upper() for line in lines if (found := _TENSOR.match(line))}
    if status != 0 or not kinds:
        return DryResult(quantization=name, error=log.lines[-1] if log.lines else "no reason given")
    return DryResult(quantization=name, tensor_types=kinds, needs_matrix=any(_NEEDS_MATRIX in line for line in lines))


def _reason(log: LibraryLog, error: Exception) -> str:
    """What llama.cpp said last before it refused, which is nearer to the cause than our own words."""
    recent = list(log.lines)[-_LOOKED_BACK:]
    said = [line for line in recent if _COMPLAINT.search(line) and not line.rstrip().endswith(_EMPTY)]
    return said[-1].strip() if said else str(error)


def _say(result: DryResult) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
