"""The engines that are loaded, and the machine they run on."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import ConfigDict, Field
from starlette.responses import Response

from lilliput.api.asking import asking
from lilliput.api.attention import attended
from lilliput.api.bodies import KeepAlive
from lilliput.api.context import Given
from lilliput.api.documents import answers
from lilliput.api.errors import encode
from lilliput.api.native.terms import TermsBody
from lilliput.api.streams import json_response
from lilliput.errors import Busy, DoesNotFit, EngineLoadFailed, ModelNotFound
from lilliput.services.deadlines import until

router = APIRouter(prefix="/lilliput", tags=["Machine"])

_ENGINE: dict[str, Any] = {
    "model": "smollm2:135m",
    "role": "generate",
    "quantization": "Q4_1",
    "state": "ready",
    "pid": 4711,
    "context_tokens": 8192,
    "slots": 8,
    "active": 1,
    "waiting": 0,
    "cached_tokens": 412,
    "memory_bytes": 479_697_824,
    "progress": 1.0,
    "settings": {"backend": "native", "kv_type": "f16", "flash_attention": "off", "threads": "2"},
    "loaded_at": 1767225600.0,
    "last_used_at": 1767225660.5,
    "load_s": 0.4,
    "pinned": False,
    "expires_at": 1767225960.5,
    "degraded": [],
    "by_caller": [1],
    "error": None,
    "log_tail": [],
    "failed_at": None,
    "stats": {
        "prefill_tokens_s": 58.0,
        "decode_tokens_s": 131.2,
        "steps_s": 32.4,
        "mean_step_s": 0.03,
        "mean_batch_tokens": 5.8,
        "kv_cells_used": 1420,
        "kv_cells": 8192,
        "totals": {
            "steps": 4120,
            "step_s": 118.9,
            "prefill_tokens": 9120,
            "decode_tokens": 15_800,
            "cached_tokens": 3600,
            "preemptions": 0,
            "drafted_tokens": 310,
            "accepted_tokens": 190,
            "gap_s": 470.2,
            "gaps": [0, 0, 9800, 5100, 880, 20, 0, 0, 0, 0, 0, 0, 0],
            "widest_tokens": 512,
            "saved_states": 12,
            "restored_states": 4,
            "store_bytes": 48_000_000,
        },
    },
}
_MEMORY: dict[str, Any] = {
    "watched": True,
    "pressed": True,
    "because": "190.2 MiB are available beside the weights in use, less than 256.0 MiB",
    "available_bytes": 293_601_280,
    "steps": [
        {
            "at": 1767225655.5,
            "kind": "evict",
            "engine": "qwen3:4b-q4_k_m",
            "text": "the idle engine is ended: 190.2 MiB are available beside the weights in use, less than 256.0 MiB",
            "before_bytes": 3_865_470_566,
            "after_bytes": 0,
        }
    ],
}
_HARDWARE: dict[str, Any] = {
    "system": "Linux",
    "release": "6.1.0",
    "cpu": {"model": "Intel Xeon", "physical_cores": 2, "logical_cores": 2},
    "memory": {"total_bytes": 25_769_803_776, "available_bytes": 21_474_836_480},
    "accelerators": [],
    "described": None,
    "bandwidth_bytes_s": 21_300_000_000.0,
    "bandwidth_cache_bound": False,
    "unified": False,
    "accelerators_problem": None,
    "fingerprint": "0f3a9c1b2d4e5f60",
    "budget": {"ram": {"budget_bytes": 20_615_843_020, "because": "80% of 24.0 GiB"}},
}
_MISSING = ModelNotFound("model 'llama9' is not installed", hint="lilliput pull llama9")
_UNLOADED = ModelNotFound("no engine of 'smollm2:135m' is loaded", hint="lilliput ps shows what is")
_LOAD_ERRORS = (
    _MISSING,
    EngineLoadFailed("the engine could not load 'smollm2:135m'", hint="the daemon's log has its last words"),
    DoesNotFit(
        "llama3.1:70b needs 42.8 GiB, the budget is 20.1 GiB", need_bytes=45_956_274_585, budget_bytes=21_582_210_662
    ),
    Busy("smollm2:135m is in use, loaded on other terms than those asked for", retry_after_s=2.0),
)


class LoadBody(TermsBody):
    """POST /lilliput/engines."""

    model: str = Field(min_length=1, description="an installed model")
    keep_alive: KeepAlive = Field(
        None,
        description="how long this engine stays when it is not used: seconds or a duration such as 10m; negative: for "
        "ever, 0: not at all",
    )

    model_config = ConfigDict(json_schema_extra={"example": {"model": "smollm2:135m", "keep_alive": "30m"}})


@router.get(
    "/engines",
    summary="List engines",
    description="The models in memory: what they take, how busy they are (`by_caller`: sequences that each caller has "
    "there, the most first), and in `stats` what they do: rates of the last 5 seconds, means of a pass, totals since "
    "the load. While one is `loading`, `progress` is the part of its file that is there. One that `failed` within the "
    "last 10 minutes, and was not tried again since, says why in `error`, and in `log_tail` what it printed last. "
    "`memory` tells whether it is short (`pressed`) and the latest steps that were taken where it was.",
    responses=answers({"engines": [_ENGINE], "memory": _MEMORY}, "native"),
    response_model=None,
)
async def list_engines(given: Given) -> Response:
    """GET /lilliput/engines."""
    engines = given.services.engines
    return json_response(encode({"engines": list(engines.list()), "memory": engines.memory()}))


@router.post(
    "/engines",
    summary="Load a model",
    description="Load a model into memory, or find it there. The answer comes when it is ready. What is asked for here "
    "(context, use case, slots, KV type, layers, rope, draft model, force) holds for all later loads of the model, in "
    "place of what its pull asked for; an idle engine that was loaded otherwise is loaded anew.",
    responses=answers(_ENGINE, "native", *_LOAD_ERRORS),
    response_model=None,
)
async def load_engine(body: LoadBody, given: Given, request: Request) -> Response:
    """POST /lilliput/engines."""
    async with until(asking(request, given).timeout_s):
        load = given.services.engines.load(body.model, body.asked, keep_alive_s=body.keep_alive)
        engine = await attended(load, request.receive, given.stop)
    return json_response(encode(engine))


@router.delete(
    "/engines/{model:path}",
    summary="Unload a model",
    description="End a model's engine and give its memory back. What it was answering ends with an error; with "
    "`drain` it comes to its end first.",
    responses=answers({"model": "smollm2:135m", "unloaded": True}, "native", _UNLOADED),
    response_model=None,
)
async def unload_engine(
    model: str,
    given: Given,
    drain: Annotated[bool, Query(description="let what is being answered come to its end")] = False,
) -> Response:
    """DELETE /lilliput/engines/{model}."""
    if not await given.services.engines.unload(model, drain=drain):
        raise ModelNotFound(f"no engine of {model!r} is loaded", hint="lilliput ps shows what is")
    return json_response(encode({"model": model, "unloaded": True}))


@router.put(
    "/pins/{model:path}",
    summary="Pin a model",
    description="Keep a model in memory once it is loaded: it is neither evicted for others nor ended when unused, and "
    "it is loaded when the daemon starts.",
    responses=answers({"model": "smollm2:135m", "pinned": True}, "native", _MISSING),
    response_model=None,
)
async def pin(model: str, given: Given) -> Response:
    """PUT /lilliput/pins/{model}."""
    return json_response(encode({"model": await given.services.engines.pin(model, on=True), "pinned": True}))


@router.delete(
    "/pins/{model:path}",
    summary="Unpin a model",
    description="Let a model go when it is not used. It stays loaded for now.",
    responses=answers({"model": "smollm2:135m", "pinned": False}, "native", _MISSING),
    response_model=None,
)
async def unpin(model: str, given: Given) -> Response:
    """DELETE /lilliput/pins/{model}."""
    return json_response(encode({"model": await given.services.engines.pin(model, on=False), "pinned": False}))


@router.get(
    "/hardware",
    summary="Show the machine",
    description="What the server sees of its machine now: processor, memory (container limits included), accelerators. "
    "`bandwidth_bytes_s` is measured once; where `bandwidth_cache_bound`, memory may be slower than that.",
    responses=answers(_HARDWARE, "native"),
    response_model=None,
)
async def hardware(given: Given) -> Response:
    """GET /lilliput/hardware."""
    return json_response(encode(await given.services.hardware()))
