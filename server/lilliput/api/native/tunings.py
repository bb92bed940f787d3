"""Which settings run a model fastest here: measured, shown, chosen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field
from starlette.responses import Response

from lilliput.api.attention import attended
from lilliput.api.bodies import Body
from lilliput.api.context import Given, request_id
from lilliput.api.documents import answers
from lilliput.api.errors import Fault, body_of, encode
from lilliput.api.streams import SSE, StreamResponse, Surroundings, json_response, sse
from lilliput.errors import DoesNotFit, InvalidRequest, ModelNotFound
from lilliput.services.tuning_choice import Trial, Tuning

router = APIRouter(prefix="/lilliput", tags=["Machine"])

_MOST_THREADS = 1024
_MOST_SEQUENCES = 256
_LEAST_S, _MOST_S = 1.0, 300.0
_LEAST_UBATCH, _MOST_UBATCH = 32, 512

_SETTINGS: dict[str, Any] = {
    "flash_attention": False,
    "threads": None,
    "batch_threads": None,
    "ubatch_tokens": None,
    "width": 8,
    "repack": None,
    "memory_map": None,
    "memory_lock": None,
}
_TRIAL: dict[str, Any] = {
    "flash_attention": True,
    "threads": 2,
    "batch_threads": 2,
    "ubatch_tokens": 512,
    "repack": True,
    "memory_map": True,
    "tokens_per_s": [[64, 96.1], [2048, 71.3]],
    "prompt_tokens_per_s": 361.0,
    "wide_tokens_per_s": [[1, 91.0], [2, 118.2], [4, 138.0], [8, 151.9], [16, 149.3]],
}
_TUNING: dict[str, Any] = {
    "model": "smollm2:135m",
    "settings": _SETTINGS,
    "measured": _SETTINGS,
    "chosen": dict.fromkeys(_SETTINGS),
    "trials": [_TRIAL],
    "disturbed": False,
}
_EVENTS = sse(encode({"trial": _TRIAL})) + sse(encode({"tuning": _TUNING})) + sse(b"[DONE]")
_MISSING = ModelNotFound("model 'llama9' is not installed", hint="lilliput pull llama9")
_FULL = DoesNotFit(
    "measuring llama3.1:8b needs 6.1 GiB of ram; 4.0 GiB can be used",
    need_bytes=6_549_825_126,
    budget_bytes=4_294_967_296,
    hint="stop other models: lilliput ps shows them",
)

Count = Annotated[int, Field(strict=True, ge=1, le=_MOST_THREADS)]
Width = Annotated[int, Field(strict=True, ge=1, le=_MOST_SEQUENCES)]
Ubatch = Annotated[int, Field(strict=True, ge=_LEAST_UBATCH, le=_MOST_UBATCH)]
Switch = Annotated[bool, Field(strict=True)]


class TuneBody(Body):
    """POST /lilliput/tune."""

    model: str = Field(min_length=1, description="an installed model")
    seconds: Annotated[float, Field(ge=_LEAST_S, le=_MOST_S)] | None = Field(
        None, description="what it may take beside the loads; more is more exact"
    )
    stream: bool | None = Field(None, description="tell each trial as it ends, as server-sent events")

    model_config = ConfigDict(json_schema_extra={"example": {"model": "smollm2:135m"}})


class ChoiceBody(Body):
    """PATCH /lilliput/tunings/{model}."""

    flash_attention: Switch | None = Field(None, description="off needs an unquantized KV cache")
    threads: Count | None = Field(None, description="threads of passes of one token")
    batch_threads: Count | None = Field(None, description="threads of all other passes")
    ubatch_tokens: Ubatch | None = Field(None, description="tokens that are computed in one piece")
    width: Width | None = Field(None, description="sequences that are decoded together; more wait")
    repack: Switch | None = Field(None, description="copy weights into a form that suits the processor")
    memory_map: Switch | None = Field(None, description="read weights through the page cache")
    memory_lock: Switch | None = Field(None, description="ask the system never to swap the weights")

    model_config = ConfigDict(json_schema_extra={"example": {"threads": 4, "flash_attention": None}})


class TuneWriter:
    """Writes each trial, and at last the tuning, as a server-sent event."""

    def __init__(self, model: str) -> None:
        self._model = model

    def opening(self) -> bytes:
        """Nothing: the file has to be loaded first."""
        return b""

    def event(self, event: Trial | Tuning) -> bytes:
        """One trial, or what came of all."""
        if isinstance(event, Trial):
            return sse(encode({"trial": event}))
        return sse(encode({"tuning": _json(self._model, event)}))

    def closing(self) -> bytes:
        """The end, announced."""
        return sse(b"[DONE]")

    def failure(self, fault: Fault) -> bytes:
        """The error in-band."""
        return sse(body_of(fault, "native"))


@router.post(
    "/tune",
    summary="Tune a model",
    description="Measure in seconds which settings are fastest for a model on this machine: flash attention, threads, "
    "the micro-batch, how many sequences to decode together, repacked and mapped weights. Later loads use them; null "
    "means the usual ones. With `stream`, server-sent events tell each `trial`, again when more of it is known, and "
    "then the `tuning`. It ends when the client leaves, and what was known is kept.",
    responses=answers(_TUNING, "native", _MISSING, _FULL, stream=("text/event-stream", _EVENTS.decode())),
    response_model=None,
)
async def tune(body: TuneBody, given: Given, request: Request) -> Response:
    """POST /lilliput/tune."""
    events = await given.services.engines.tune(body.model, seconds=body.seconds)
    if body.stream:
        around = Surroundings(given.stop, given.heartbeat_s, request_id(request))
        return StreamResponse(events, _nothing, TuneWriter(body.model), SSE, around)
    tuning = await attended(_last(events), request.receive, given.stop)
    return json_response(encode(_json(body.model, tuning)))


@router.get(
    "/tunings/{model:path}",
    summary="Show a tuning",
    description="What was `measured` of a model on this machine, what somebody has `chosen` for it, and the `settings` "
    "that loads use. `trials` is empty before it was measured.",
    responses=answers(_TUNING, "native", _MISSING),
    response_model=None,
)
async def show_tuning(model: str, given: Given) -> Response:
    """GET /lilliput/tunings/{model}."""
    return json_response(encode(_json(model, await given.services.engines.tuning(model))))


@router.patch(
    "/tunings/{model:path}",
    summary="Choose settings",
    description="Choose settings of a model's loads, whatever was measured. null leaves a setting to the measurement "
    "again; what is not named stays.",
    responses=answers(_TUNING, "native", _MISSING),
    response_model=None,
)
async def choose(model: str, body: ChoiceBody, given: Given) -> Response:
    """PATCH /lilliput/tunings/{model}."""
    changes = {name: getattr(body, name) for name in body.model_fields_set}
    if not changes:
        raise InvalidRequest("no setting is named", hint=f"name some of {', '.join(ChoiceBody.model_fields)}")
    return json_response(encode(_json(model, await given.services.engines.choose(model, changes))))


@router.delete(
    "/tunings/{model:path}",
    summary="Clear choices",
    description="Leave all settings of a model's loads to what was measured.",
    responses=answers(_TUNING, "native", _MISSING),
    response_model=None,
)
async def clear(model: str, given: Given) -> Response:
    """DELETE /lilliput/tunings/{model}."""
    return json_response(encode(_json(model, await given.services.engines.choose(model, None))))


def _json(model: str, tuning: Tuning) -> dict[str, Any]:
    return {"model": model, **tuning.to_json()}


async def _last(events: AsyncIterator[Trial | Tuning]) -> Tuning:
    """What comes after all trials."""
    async for event in events:
        if isinstance(event, Tuning):
            return event
    raise AssertionError("trials end with a tuning or an error")


async def _nothing() -> None:
    """Nobody but this response holds its events."""
